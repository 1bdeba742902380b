import type { Clock } from '../std/clock.ts';

/** What a namespace of weight 1 may have done in a round, in bytes. */
const QUANTUM = 64 * 1024;
/** What is done in one turn of the loop, in bytes: then what has come meanwhile is read. */
const TURN = 1024 * 1024;
/** What it costs to look at anything at all, in bytes. */
const LEAST = 256;
/** How often it looks whether the log takes more, in milliseconds. */
const CHECK_MS = 5;

/** Somebody whose things wait in a line of their own. */
export interface Party {
  /** Its share beside those of others. */
  readonly weight: number;
}

interface Waiting {
  readonly cost: number;
  readonly act: () => void;
}

interface Line {
  readonly party: Party;
  readonly waiting: Waiting[];
  /** Of `waiting`, how many are done. */
  done: number;
  /** What it may still have done before others have their turn. */
  credit: number;
  /** It has got its credit for this round. */
  served: boolean;
}

/** What a {@link FairShare} is made of. */
export interface FairShareOptions {
  readonly clock: Clock;
  /** Whether there are several parties at all; while there are not, nobody waits. */
  readonly divided: () => boolean;
  /** Whether nothing can be done just now. */
  readonly congested: () => boolean;
}

/**
 * Has what several parties ask of a broker done in fair shares, when it can't do all at once: in rounds, in each of
 * which everybody who waits gets done what its weight is worth, and what one does not need is for the others. What
 * a party asks for is done in the order in which it has come.
 *
 * It is deficit round robin (M. Shreedhar and G. Varghese, Efficient fair queuing using deficit round-robin, 1995),
 * in bytes of what was sent.
 */
export class FairShare {
  private readonly options: FairShareOptions;
  private readonly lines = new Map<Party, Line>();
  /** Those who wait, whose turn it is first. */
  private round: Line[] = [];
  private scheduled = false;

  constructor(options: FairShareOptions) {
    this.options = options;
  }

  /** Does it now, if nobody has to wait, or when its turn has come. `act` must not throw. */
  run(party: Party, bytes: number, act: () => void): void {
    if (this.isFree) return act();
    let line = this.lines.get(party);
    if (!line) {
      line = { party, waiting: [], done: 0, credit: 0, served: false };
      this.lines.set(party, line);
      this.round.push(line);
    }
    line.waiting.push({ cost: bytes + LEAST, act });
    this.schedule();
  }

  /** Whether nobody has to wait. */
  get isFree(): boolean {
    return this.round.length === 0 && !this.options.divided();
  }

  private schedule(): void {
    if (this.scheduled || this.round.length === 0) return;
    this.scheduled = true;
    const { clock, congested } = this.options;
    const turn = (): void => {
      this.scheduled = false;
      this.turn();
      this.schedule();
    };
    if (congested()) clock.after(CHECK_MS, turn);
    else clock.soon(turn);
  }

  private turn(): void {
    const { congested } = this.options;
    let left = TURN;
    while (left > 0 && this.round.length > 0) {
      const line = this.round[0]!;
      if (!line.served) line.credit += QUANTUM * line.party.weight;
      line.served = true;
      for (;;) {
        const next = line.waiting[line.done];
        if (!next || next.cost > line.credit) break;
        if (left <= 0 || congested()) return;
        line.done++;
        line.credit -= next.cost;
        left -= next.cost;
        next.act();
      }
      line.served = false;
      this.round.shift();
      if (line.done < line.waiting.length) {
        this.round.push(line);
        if (line.done > line.waiting.length / 2) {
          line.waiting.splice(0, line.done);
          line.done = 0;
        }
      } else this.lines.delete(line.party);
    }
  }
}
