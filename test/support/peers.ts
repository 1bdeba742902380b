import type { Claim, Cluster, Member, Vitals } from '../../src/cluster/cluster.ts';
import type { Answerer, Peers } from '../../src/cluster/peers.ts';
import type { Clock } from '../../src/std/clock.ts';
import { HubError, toHubError } from '../../src/std/errors.ts';

const NOTHING = Buffer.alloc(0);

/** Brokers that ask each other, in one process; who serves what is as the test says. */
export class Neighbourhood {
  readonly claims = new Map<number, Claim>();
  readonly neighbours = new Map<string, Neighbour>();
  readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Another broker. */
  add(id: string): Neighbour {
    const neighbour = new Neighbour(id, this);
    this.neighbours.set(id, neighbour);
    return neighbour;
  }

  /** A broker serves the shard from now on. */
  serve(shard: number, id: string): void {
    const counter = (this.claims.get(shard)?.epoch.counter ?? 0) + 1;
    for (const neighbour of this.neighbours.values()) neighbour.owners.delete(shard);
    this.claims.set(shard, { broker: id, epoch: { revision: 1, counter } });
    this.neighbours.get(id)!.owners.set(shard, {});
  }

  /** Nobody serves the shard any more. */
  release(shard: number): void {
    for (const neighbour of this.neighbours.values()) neighbour.owners.delete(shard);
    this.claims.delete(shard);
  }
}

/** One of the brokers of a {@link Neighbourhood}. */
export class Neighbour implements Peers {
  readonly id: string;
  readonly owners = new Map<number, object>();
  /** It is heard by the others. */
  live = true;
  /** It hears, but says nothing. */
  mute = false;
  /** Questions that came, in their order. */
  readonly heard: string[] = [];
  readonly cluster: Cluster;
  private readonly answerers = new Map<string, Answerer>();
  private readonly hood: Neighbourhood;

  constructor(id: string, hood: Neighbourhood) {
    this.id = id;
    this.hood = hood;
    const live = (): Neighbour[] => [...hood.neighbours.values()].filter((one) => one.live);
    this.cluster = {
      self: id,
      members: () => live().map((one) => memberOf(one.id)),
      isLive: (broker: string) => live().some((one) => one.id === broker),
      vitals: () => undefined as Vitals | undefined,
      claim: (shard: number) => hood.claims.get(shard),
    } as unknown as Cluster;
  }

  /** Whom it has as its own. */
  owner(shard: number): object | undefined {
    return this.owners.get(shard);
  }

  answer(question: string, answerer: Answerer): void {
    this.answerers.set(question, answerer);
  }

  ask(
    broker: string,
    question: string,
    request: Uint8Array,
    timeoutMs: number,
    done: (error: HubError | undefined, response: Buffer) => void,
  ): void {
    const { clock, neighbours } = this.hood;
    const silence = clock.after(timeoutMs, () => done(new HubError('unavailable', 'silence'), NOTHING));
    clock.soon(() => {
      const neighbour = neighbours.get(broker);
      if (!neighbour?.live) return;
      neighbour.heard.push(question);
      const answer = (error: HubError | undefined, response: Uint8Array): void => {
        clock.soon(() => {
          if (!neighbour.live || neighbour.mute) return;
          silence.cancel();
          done(error, Buffer.from(response));
        });
      };
      try {
        neighbour.answerers.get(question)!(Buffer.from(request), answer);
      } catch (error) {
        answer(toHubError(error), NOTHING);
      }
    });
  }
}

function memberOf(id: string): Member {
  return {
    id,
    address: `${id}:50051`,
    joinedAt: 1,
    version: '1',
    level: 1,
    draining: false,
    pool: 'default',
  };
}
