import { replyMailbox } from '../core/shard.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock } from '../std/clock.ts';
import type { ProgressUpdate } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Lease } from '../wire/lease.ts';
import type { Owner } from './owner.ts';
import type { Progress } from './consumer.ts';
import type { Sessions } from './sessions.ts';

/** Newest progress of tasks that are remembered, for who looks a task up. */
const REMEMBERED = 10_000;

/** Takes progress of the tasks that an agent asked for. */
export type ProgressListener = (progress: Progress) => void;

/**
 * Brings progress to who asked for the task: the session that published it, or else all sessions of
 * the requester. Best effort: nothing is kept but the newest of each task, for a while.
 */
export class ProgressDesk {
  private readonly sessions: Sessions;
  private readonly ownerOf: (mailbox: string) => Owner | undefined;
  private readonly clock: Clock;
  private readonly metrics: Metrics;
  private readonly listeners = new Map<string, Set<ProgressListener>>();
  private readonly newest = new Map<string, Progress>();

  constructor(
    sessions: Sessions,
    ownerOf: (mailbox: string) => Owner | undefined,
    clock: Clock,
    metrics: Metrics,
  ) {
    this.sessions = sessions;
    this.ownerOf = ownerOf;
    this.clock = clock;
    this.metrics = metrics;
  }

  /** A holder reports; throws if it does not hold the lease. */
  report(owner: Owner, lease: Lease, session: string, update: ProgressUpdate): void {
    const slot = owner.held(lease, session);
    const facts = owner.endings.facts(slot);
    this.pass(
      {
        taskId: facts.id,
        to: owner.state.mailboxes.name(owner.state.tasks.mailbox[slot]!),
        requester: facts.requester,
        executor: owner.holders.consumer(slot)?.spec.agent ?? '',
        percent: Math.min(update.percent, 100),
        message: update.message,
        payload: update.payload,
        contentType: update.contentType,
        updatedAtMs: BigInt(Math.floor(this.clock.now())),
      },
      owner.endings.origin(slot),
    );
  }

  /** Passes progress on; `origin` is the session that published the task, if it is known. */
  pass(progress: Progress, origin: string): void {
    this.metrics.progress.add();
    this.remember(progress);
    const { requester = '' } = progress;
    if (requester === '') return;
    for (const listener of this.listeners.get(requester) ?? []) listener(progress);
    const publisher = origin === '' ? undefined : this.sessions.get(origin);
    if (publisher?.connected) return publisher.tell(progress);
    const mailbox = replyMailbox(requester);
    const owner = this.ownerOf(mailbox);
    if (!owner) return;
    const { state, subscriptions } = owner;
    const id = state.mailboxes.find(mailbox);
    for (const { sink } of [...subscriptions.workers(id), ...subscriptions.listeners(id)])
      sink.tell(progress);
  }

  /** Progress of a task that nobody here knows goes to everybody who listens. */
  passToAll(progress: Progress): void {
    this.metrics.progress.add();
    for (const listeners of this.listeners.values()) for (const listener of listeners) listener(progress);
  }

  /** Calls the listener with the progress of all tasks that the agent asked for, until the answer is called. */
  listen(requester: string, listener: ProgressListener): () => void {
    let listeners = this.listeners.get(requester);
    if (!listeners) this.listeners.set(requester, (listeners = new Set()));
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.listeners.get(requester) === listeners)
        this.listeners.delete(requester);
    };
  }

  /** The newest progress of a task, if it is remembered. */
  of(mailbox: string, taskId: string): Progress | undefined {
    return this.newest.get(`${mailbox}\n${taskId}`);
  }

  private remember(progress: Progress): void {
    const key = `${progress.to ?? ''}\n${progress.taskId ?? ''}`;
    this.newest.delete(key);
    this.newest.set(key, progress);
    if (this.newest.size <= REMEMBERED) return;
    const oldest = this.newest.keys().next();
    if (!oldest.done) this.newest.delete(oldest.value);
  }
}
