import { replyMailbox } from '../core/shard.ts';
import type { Consumer, ConsumerSpec } from './consumer.ts';
import type { Owner } from './owner.ts';

/** An attachment as the session knows it, whoever serves its mailbox, and wherever. */
export interface Seat {
  readonly mailbox: string;
  readonly shard: number;
  readonly spec: ConsumerSpec;
  /** The window that the client has asked for last; 0: adaptive. */
  window: number;
  /**
   * How an owner of this broker serves it, if one does: one consumer, or for replies two, of which the other one
   * is that of the session's own lane.
   */
  consumers: readonly Consumer[];
  /** Tasks that came through it from another broker and have not ended. */
  relayed: number;
}

const NOBODY: readonly Consumer[] = [];

/** A seat that nobody serves yet. */
export function seatOf(mailbox: string, shard: number, spec: ConsumerSpec): Seat {
  return { mailbox, shard, spec, window: spec.window, consumers: NOBODY, relayed: 0 };
}

/** Attaches it at an owner of this broker. */
export function place(seat: Seat, owner: Owner): void {
  const { mailbox } = seat;
  const spec = seat.window === seat.spec.window ? seat.spec : { ...seat.spec, window: seat.window };
  // Lists are made as long as they are: one that is pushed to has room for 17.
  const consumer = owner.attach(mailbox, spec);
  seat.consumers = [consumer];
  if (mailbox.startsWith('reply:') && !spec.listener) {
    const lane = replyMailbox(mailbox.slice('reply:'.length), spec.sink.session);
    seat.consumers = [consumer, owner.attach(lane, spec, consumer)];
  }
}
