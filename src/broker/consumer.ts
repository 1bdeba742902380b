import type { MessageInitShape } from '@bufbuild/protobuf';
import { CreditWindow } from '../core/credit.ts';
import type { Attachment } from '../core/subscription.ts';
import type { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { LeaseName } from '../wire/lease.ts';

/** Adaptive windows follow the worker's speed of about the last second. */
const SMOOTHING_MS = 500;

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
  /** Delivers what stands in `bytes[start, end)` through that attachment; without a lease it is a copy. */
  deliver(
    attachment: number,
    lease: LeaseName | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void;
  /** The session holds that lease from before the owner, or the session, began. Leases are objects that are used again. */
  leaseKept(lease: LeaseName): void;
  /** The session's lease has ended. */
  leaseEnded(lease: LeaseName): void;
  /** The holder shall stop: the lease is not its any more. */
  abort(lease: LeaseName, reason: string): void;
  /** Tells of a task that the session's agent asked for. Best effort. */
  tell(progress: Progress): void;
}

/** Progress of a task, on its way to who asked for it. */
export type Progress = MessageInitShape<typeof ProgressSchema>;

/** What an attachment is made from. */
export interface ConsumerSpec {
  readonly sink: Sink;
  /** The number that the client gave it. */
  readonly number: number;
  readonly listener: boolean;
  readonly types: ReadonlySet<string>;
  /** Only tasks of these ids; empty: all. For listeners. */
  readonly taskIds: ReadonlySet<string>;
  /** The agent that it works for. */
  readonly agent: string;
  /** 0: adaptive. */
  readonly window: number;
  /** The most that a window may be. */
  readonly maxWindow: number;
  /** Unix milliseconds. */
  readonly attachedAt: number;
}

/** How much an attachment may hold, and how much it does. */
class Credit {
  window = 0;
  inFlight = 0;
  private readonly maxWindow: number;
  private adaptive: CreditWindow | undefined;
  private settled = 0;
  private busyMs = 0;
  private adaptedAt: number;

  constructor({ window, maxWindow, attachedAt }: ConsumerSpec) {
    this.maxWindow = maxWindow;
    this.adaptedAt = attachedAt;
    this.resize(window);
  }

  /** 0: adaptive from now on. */
  resize(window: number): void {
    if (window > 0) this.adaptive = undefined;
    else
      this.adaptive ??= new CreditWindow({
        acknowledged: true,
        bound: this.maxWindow,
        smoothingMs: SMOOTHING_MS,
      });
    this.window = this.adaptive ? this.adaptive.window : Math.min(window, this.maxWindow);
  }

  settledOne(tookMs: number, now: number): void {
    this.inFlight--;
    if (!this.adaptive) return;
    this.settled++;
    this.busyMs += tookMs;
    const elapsed = now - this.adaptedAt;
    if (this.settled < this.window || elapsed <= 0) return;
    this.adaptive.observe((this.settled * 1000) / elapsed, this.busyMs / this.settled / 1000, now);
    this.window = this.adaptive.window;
    this.settled = 0;
    this.busyMs = 0;
    this.adaptedAt = now;
  }
}

/** An attachment, as the owner of its mailbox serves it. */
export class Consumer implements Attachment {
  readonly id: number;
  readonly mailbox: number;
  readonly spec: ConsumerSpec;
  readonly sink: Sink;
  readonly listener: boolean;
  readonly filtered: boolean;
  readonly types: ReadonlySet<string>;
  readonly session: string;
  /** The same attachment at the lane of its own session, or at the mailbox of replies beside the lane. */
  twin: Consumer | undefined;
  private readonly credit: Credit;

  /** `id` and `mailbox` are the owner's numbers, see `Owner.attach`. */
  constructor(id: number, mailbox: number, spec: ConsumerSpec, twin?: Consumer) {
    this.id = id;
    this.mailbox = mailbox;
    this.spec = spec;
    this.sink = spec.sink;
    this.listener = spec.listener;
    this.filtered = spec.types.size > 0;
    this.types = spec.types;
    this.session = spec.sink.session;
    this.credit = twin?.credit ?? new Credit(spec);
    this.twin = twin;
    if (twin) twin.twin = this;
  }

  /** Tasks it may hold at a time; a twin shares them. */
  get window(): number {
    return this.credit.window;
  }

  /** The client wants another window; 0: an adaptive one. */
  resize(window: number): void {
    this.credit.resize(window);
  }

  get inFlight(): number {
    return this.credit.inFlight;
  }

  set inFlight(tasks: number) {
    this.credit.inFlight = tasks;
  }

  /** One of its tasks has ended, `tookMs` after it was delivered. An adaptive window follows. */
  settledOne(tookMs: number, now: number): void {
    this.credit.settledOne(tookMs, now);
  }
}
