import { isIn, namespaceOf } from '../core/namespace.ts';
import { replyMailbox } from '../core/shard.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock } from '../std/clock.ts';
import type { ProgressUpdate } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Lease } from '../wire/lease.ts';
import type { Owner } from './owner.ts';
import type { Progress } from './consumer.ts';
import type { Posted, ProgressPost } from './progress-post.ts';
import type { Sessions } from './sessions.ts';

/** Newest progress of tasks that are remembered, for who looks a task up. */
const REMEMBERED = 10_000;

/** Takes progress of the tasks that an agent asked for. */
export type ProgressListener = (progress: Progress) => void;

/** The way to other brokers. */
export interface Elsewhere {
  readonly post: ProgressPost;
  /** The broker that serves the mailbox, if one does. */
  readonly brokerOf: (mailbox: string) => string | undefined;
}

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
  private elsewhere: Elsewhere | undefined;

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

  /** There are other brokers, too. */
  join(elsewhere: Elsewhere): void {
    this.elsewhere = elsewhere;
  }

  /** A holder reports; throws if it does not hold the lease. */
  report(owner: Owner, lease: Lease, session: string, update: ProgressUpdate): void {
    const slot = owner.held(lease, session);
    const facts = owner.endings.facts(slot);
    this.pass(
      {
        taskId: facts.id,
        to: owner.endings.addressee(slot),
        requester: facts.requester,
        executor: owner.holders.executor(slot),
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
    this.tellListeners(progress);
    const publisher = origin === '' ? undefined : this.sessions.get(origin);
    const connected = publisher?.connected === true;
    if (connected) publisher.tell(progress);
    else this.tellRequester(requester, progress);
    const { elsewhere } = this;
    if (!elsewhere) return;
    const audience = connected ? 'listeners' : 'requester';
    const broker = connected ? undefined : elsewhere.brokerOf(replyMailbox(requester));
    elsewhere.post.post({ progress, origin, audience }, { everywhere: !connected && origin !== '', broker });
  }

  /** Progress of a task that nobody knows goes to everybody in that namespace who listens: `to` says it as well. */
  passToAll(namespace: string, progress: Progress): void {
    this.metrics.progress.add();
    this.tellAll(namespace, progress);
    const posted = { progress, origin: '', audience: 'all' } as const;
    this.elsewhere?.post.post(posted, { everywhere: false, broker: undefined });
  }

  /** Another broker passes progress on. */
  take({ progress, origin, audience }: Posted): void {
    if (audience === 'all') return this.tellAll(namespaceOf(progress.to ?? ''), progress);
    this.tellListeners(progress);
    if (audience === 'listeners') return;
    const publisher = origin === '' ? undefined : this.sessions.get(origin);
    // Its own broker gets this, too.
    if (publisher?.connected && !this.sessions.isHere(origin)) return;
    if (publisher?.connected) publisher.tell(progress);
    else this.tellRequester(progress.requester ?? '', progress);
  }

  get listening(): boolean {
    return this.listeners.size > 0;
  }

  /** The publisher is not known here to be connected: all sessions of the requester are told, if this is their broker. */
  private tellRequester(requester: string, progress: Progress): void {
    const mailbox = replyMailbox(requester);
    const owner = this.ownerOf(mailbox);
    if (!owner) return;
    const { state, subscriptions } = owner;
    const id = state.mailboxes.find(mailbox);
    for (const { sink } of [...subscriptions.workers(id), ...subscriptions.listeners(id)])
      sink.tell(progress);
  }

  private tellListeners(progress: Progress): void {
    for (const listener of this.listeners.get(progress.requester ?? '') ?? []) listener(progress);
  }

  private tellAll(namespace: string, progress: Progress): void {
    for (const [requester, listeners] of this.listeners) {
      if (isIn(namespace, requester)) for (const listener of listeners) listener(progress);
    }
  }

  /** Calls the listener with the progress of all tasks that the agent asked for, until the answer is called. */
  listen(requester: string, listener: ProgressListener): () => void {
    let listeners = this.listeners.get(requester);
    if (!listeners) this.listeners.set(requester, (listeners = new Set()));
    if (this.listeners.size === 1 && listeners.size === 0) this.elsewhere?.post.announce();
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
