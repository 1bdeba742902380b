import type { Consumer } from './consumer.ts';
import type { LeaseName } from '../wire/lease.ts';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';

/**
 * Where an owner delivers to: a session that an edge keeps, on this broker or another.
 *
 * An owner never waits for a sink: one that is not `ready` is passed over, and calls `Owner.resume`
 * when it is ready again.
 */
export interface Sink {
  /** The session's id, 16 hexadecimal digits. */
  readonly session: string;
  /** For people: what the client calls itself. */
  readonly client: string;
  /** Whether more may be delivered through that attachment now. */
  ready(consumer: Consumer): boolean;
  /** Delivers what stands in `bytes[start, end)`; without a lease it is a copy. */
  deliver(
    consumer: Consumer,
    lease: LeaseName | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void;
  /** The session's lease with that hash has ended. */
  leaseEnded(hash: number): void;
  /** The holder shall stop: the lease is not its any more. */
  abort(lease: LeaseName, reason: string): void;
  /** Tells of a task that the session's agent asked for. Best effort. */
  tell(progress: Progress): void;
}

/** Progress of a task, on its way to who asked for it. */
export type Progress = MessageInitShape<typeof ProgressSchema>;
