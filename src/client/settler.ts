import type { Clock, Timer } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';
import { retryable } from '../std/errors.ts';
import type { Answer } from '../wire/client-batch.ts';
import { SettleWriter } from '../wire/client-batch.ts';
import type { ClientFrameVisitor, Ranges } from '../wire/client-frame.ts';
import { ClientFrameReader, SettlementScan } from '../wire/client-frame.ts';
import type { SettleAck } from '../wire/gen/agenthub/v1/session_pb.ts';
import { errorOfRefusal } from '../wire/status.ts';
import type { Delivery, Leases } from './delivery.ts';
import type { Outbox } from './outbox.ts';

const BATCH_BYTES = 256 * 1024;
const RETRY_MS = 200;

/** A settlement that the broker could not take yet. */
interface Retry {
  readonly part: Buffer;
  readonly index: number;
  readonly timer: Timer;
}

/**
 * Settles leases. All settlements of one turn are one batch, which is kept until the broker has
 * acknowledged it, and said again on every new connection until then.
 */
export class Settler {
  private readonly outbox: Outbox;
  private readonly leases: Leases;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private readonly writer = new SettleWriter();
  private readonly unacknowledged = new Map<number, Buffer>();
  private batch = 0;
  private opened = false;
  private readonly retries = new Set<Retry>();
  private waiting: (() => void)[] = [];
  /** The most settlements in one batch. */
  limit = 1000;

  constructor(outbox: Outbox, leases: Leases, clock: Clock, logger: Logger) {
    this.outbox = outbox;
    this.leases = leases;
    this.clock = clock;
    this.logger = logger;
  }

  /** Whether everything that was said is acknowledged. */
  get idle(): boolean {
    return !this.opened && this.unacknowledged.size === 0 && this.retries.size === 0;
  }

  /** Completes a task, also one whose lease was lost: the first completion of a task counts. */
  completed(delivery: Delivery, answer?: Answer): void {
    if (delivery.lease < 0 || delivery.settled) return;
    this.leases.remove(delivery);
    delivery.settled = true;
    this.open();
    this.writer.completed(delivery.frame, delivery.lease, answer);
    this.added();
  }

  /** Fails a task. Nothing happens if its lease is not held any more. */
  failed(delivery: Delivery, error: string, canRetry: boolean, retryAfterMs: number): void {
    if (!this.leases.remove(delivery)) return;
    delivery.settled = true;
    this.open();
    this.writer.failed(delivery.frame, delivery.lease, error, canRetry, retryAfterMs);
    this.added();
  }

  /** Hands a task back untouched. Nothing happens if its lease is not held any more. */
  released(delivery: Delivery): void {
    if (!this.leases.remove(delivery)) return;
    delivery.settled = true;
    this.open();
    this.writer.released(delivery.frame, delivery.lease);
    this.added();
  }

  /** Says what has gathered in this turn. */
  speak(): void {
    if (!this.opened) return;
    this.opened = false;
    const part = this.writer.take();
    this.unacknowledged.set(this.batch, part);
    this.outbox.say(part);
  }

  /** There is a new connection: says again what the broker may not have got. */
  welcomed(): void {
    for (const part of this.unacknowledged.values()) this.outbox.say(part);
    if (this.opened) this.outbox.wake();
  }

  acknowledged(ack: SettleAck): void {
    const batch = Number(ack.batch);
    const part = this.unacknowledged.get(batch);
    if (part === undefined) return;
    this.unacknowledged.delete(batch);
    for (const refusal of ack.refused) {
      const error = errorOfRefusal(refusal);
      if (retryable(error)) this.again(part, refusal.index, error.retryAfterMs ?? RETRY_MS);
      else this.logger.debug({ code: error.code, reason: error.message }, 'a settlement came too late');
    }
    this.settleWaiting();
  }

  /** The leases that are settled but not acknowledged. */
  pending(): Uint8Array[] {
    this.speak();
    const leases: Uint8Array[] = [];
    const scan = new SettlementScan();
    const add = (bytes: Uint8Array, ranges: Ranges, index: number): void => {
      scan.read(bytes, ranges.start(index), ranges.end(index));
      leases.push(bytes.subarray(scan.leaseStart, scan.leaseEnd));
    };
    for (const part of this.unacknowledged.values()) {
      readBatch(part, (bytes, ranges) => {
        for (let index = 0; index < ranges.count; index++) add(bytes, ranges, index);
      });
    }
    for (const { part, index } of this.retries) readBatch(part, (bytes, ranges) => add(bytes, ranges, index));
    return leases;
  }

  /** Resolves when everything is acknowledged, or the session is over. */
  whenIdle(): Promise<void> {
    if (this.idle) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** The session is over: nothing will be acknowledged any more. */
  over(): void {
    this.unacknowledged.clear();
    if (this.opened) this.writer.take();
    this.opened = false;
    for (const { timer } of this.retries) timer.cancel();
    this.retries.clear();
    this.settleWaiting();
  }

  private open(): void {
    if (this.opened) return;
    this.opened = true;
    this.writer.open(++this.batch);
    this.outbox.wake();
  }

  private added(): void {
    if (this.writer.count >= this.limit || this.writer.bytes >= BATCH_BYTES) this.speak();
  }

  private again(part: Buffer, index: number, afterMs: number): void {
    const timer = this.clock.after(afterMs, () => {
      this.retries.delete(retry);
      readBatch(part, (bytes, ranges) => {
        this.open();
        this.writer.again(bytes, ranges.start(index), ranges.end(index));
        this.added();
      });
    });
    const retry: Retry = { part, index, timer };
    this.retries.add(retry);
  }

  private settleWaiting(): void {
    if (!this.idle) return;
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** Finds the settlements in a batch that {@link SettleWriter} made. */
function readBatch(part: Buffer, visit: (bytes: Uint8Array, settlements: Ranges) => void): void {
  const visitor: Pick<ClientFrameVisitor, 'settle'> = {
    settle: (_batch, bytes, settlements) => visit(bytes, settlements),
  };
  new ClientFrameReader().read(part, visitor as ClientFrameVisitor);
}
