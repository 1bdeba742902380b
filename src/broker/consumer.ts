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

/** A window that follows the worker's speed. */
class Adaptive {
  private readonly credit: CreditWindow;
  private settled = 0;
  private busyMs = 0;
  private adaptedAt: number;

  constructor({ maxWindow, attachedAt }: ConsumerSpec) {
    this.credit = creditOf(maxWindow);
    this.adaptedAt = attachedAt;
  }

  /** One task more has ended; answers with the window from now on. */
  settledOne(window: number, tookMs: number, now: number): number {
    this.settled++;
    this.busyMs += tookMs;
    const elapsed = now - this.adaptedAt;
    if (this.settled < window || elapsed <= 0) return window;
    this.credit.observe((this.settled * 1000) / elapsed, this.busyMs / this.settled / 1000, now);
    this.settled = 0;
    this.busyMs = 0;
    this.adaptedAt = now;
    return this.credit.window;
  }
}

/** How much an attachment may hold, and how much it does. */
class Credit {
  window = 0;
  inFlight = 0;
  private isAdaptive = false;
  /** Made when the first task has ended: most attachments of a large crowd are idle. */
  private adaptive: Adaptive | undefined;

  constructor(spec: ConsumerSpec) {
    this.resize(spec.window, spec);
  }

  /** 0: adaptive from now on. */
  resize(window: number, { maxWindow }: ConsumerSpec): void {
    const isAdaptive = window === 0;
    if (isAdaptive && this.isAdaptive) return;
    this.isAdaptive = isAdaptive;
    this.adaptive = undefined;
    this.window = isAdaptive ? creditOf(maxWindow).window : Math.min(window, maxWindow);
  }

  settledOne(tookMs: number, now: number, spec: ConsumerSpec): void {
    this.inFlight--;
    if (!this.isAdaptive) return;
    this.adaptive ??= new Adaptive(spec);
    this.window = this.adaptive.settledOne(this.window, tookMs, now);
  }
}

function creditOf(bound: number): CreditWindow {
  return new CreditWindow({ acknowledged: true, bound, smoothingMs: SMOOTHING_MS });
}

/** An attachment, as the owner of its mailbox serves it. */
export class Consumer implements Attachment {
  readonly id: number;
  readonly mailbox: number;
  readonly spec: ConsumerSpec;
  readonly sink: Sink;
  readonly listener: boolean;
  readonly filtered: boolean;
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
    this.session = spec.sink.session;
    this.credit = twin?.credit ?? new Credit(spec);
    this.twin = twin;
    if (twin) twin.twin = this;
  }

  get types(): ReadonlySet<string> {
    return this.spec.types;
  }

  /** Tasks it may hold at a time; a twin shares them. */
  get window(): number {
    return this.credit.window;
  }

  /** The client wants another window; 0: an adaptive one. */
  resize(window: number): void {
    this.credit.resize(window, this.spec);
  }

  get inFlight(): number {
    return this.credit.inFlight;
  }

  set inFlight(tasks: number) {
    this.credit.inFlight = tasks;
  }

  /** One of its tasks has ended, `tookMs` after it was delivered. An adaptive window follows. */
  settledOne(tookMs: number, now: number): void {
    this.credit.settledOne(tookMs, now, this.spec);
  }
}
