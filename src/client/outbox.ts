import type { Clock } from '../std/clock.ts';
import type { Link } from './link.ts';

/** A frame is written when it has grown to this size; one part may be larger by itself. */
const FRAME_BYTES = 512 * 1024;

/**
 * What a session says. Parts of frames that are said in one turn of the loop leave as one frame,
 * and while the connection can't take more, they wait and gather.
 *
 * Without a connection nothing is kept: who needs an answer says it again when there is one.
 */
export class Outbox {
  private readonly clock: Clock;
  private readonly speak: () => void;
  private link: Link | undefined;
  private parts: Buffer[] = [];
  private scheduled = false;
  private blocked = false;

  /** @param speak lets those who gather what they have to say until a frame leaves say it now. */
  constructor(clock: Clock, speak: () => void) {
    this.clock = clock;
    this.speak = speak;
  }

  get connected(): boolean {
    return this.link !== undefined;
  }

  /** There is a connection: what is said from now on leaves through it. */
  open(link: Link): void {
    this.link = link;
    this.blocked = false;
    this.wake();
  }

  /** The connection is gone, and what was said with it. */
  close(): void {
    this.link = undefined;
    this.parts = [];
  }

  /** Adds a part of a frame. */
  say(part: Buffer): void {
    if (this.link === undefined) return;
    this.parts.push(part);
    this.wake();
  }

  /** Sees to it that a frame leaves at the end of this turn. */
  wake(): void {
    if (this.scheduled || this.blocked || this.link === undefined) return;
    this.scheduled = true;
    this.clock.soon(() => {
      this.scheduled = false;
      this.flush();
    });
  }

  /** The connection takes frames again. */
  drained(): void {
    this.blocked = false;
    this.flush();
  }

  /** Writes what there is to say now. */
  flush(): void {
    const { link } = this;
    if (link === undefined || this.blocked) return;
    this.speak();
    const { parts } = this;
    let from = 0;
    while (from < parts.length && !this.blocked) {
      let to = from;
      let bytes = 0;
      do bytes += parts[to++]!.length;
      while (to < parts.length && bytes + parts[to]!.length <= FRAME_BYTES);
      const frame = to - from === 1 ? parts[from]! : Buffer.concat(parts.slice(from, to), bytes);
      from = to;
      const more = link.write(frame);
      if (this.link !== link) return;
      this.blocked = !more;
    }
    this.parts = from === parts.length ? [] : parts.slice(from);
  }
}
