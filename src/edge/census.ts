import type { Owner } from '../broker/owner.ts';
import { State } from '../core/task-table.ts';

/** What the mailboxes of a broker hold, and who is attached to them. */
export interface Census {
  queued: number;
  active: number;
  queuedBytes: number;
  /** Age of the task that waits longest. */
  oldestSeconds: number;
  /** Tasks that wait although a worker has free credit. */
  backlog: number;
  mailboxes: number;
  /** Tasks, and mailboxes that hold them, that nobody is attached to; results and dead letters may wait. */
  unserved: number;
  unservedMailboxes: number;
  oldestUnservedSeconds: number;
  deadLetters: number;
}

/** Counts them all, mailbox by mailbox. */
export function census(owners: readonly Owner[], now: number): Census {
  const sum: Census = {
    queued: 0,
    active: 0,
    queuedBytes: 0,
    oldestSeconds: 0,
    backlog: 0,
    mailboxes: 0,
    unserved: 0,
    unservedMailboxes: 0,
    oldestUnservedSeconds: 0,
    deadLetters: 0,
  };
  for (const { state, ready, subscriptions } of owners) {
    const { mailboxes, tasks } = state;
    sum.queuedBytes += state.bytes;
    sum.mailboxes += mailboxes.size;
    sum.deadLetters += state.deaths.size;
    for (const [name, id] of mailboxes.entries()) {
      sum.queued += mailboxes.queued[id]!;
      sum.active += mailboxes.leased[id]!;
      const next = ready.peek(id);
      const count = next < 0 ? 0 : ready.count(id);
      if (count === 0) continue;
      const isTask = tasks.state[next] === State.queued;
      const age = isTask ? (now - tasks.accepted[next]!) / 1000 : 0;
      sum.oldestSeconds = Math.max(sum.oldestSeconds, age);
      if (subscriptions.idle(id)) sum.backlog += count;
      if (!isTask || name.startsWith('reply:') || subscriptions.attachedTo(id)) continue;
      sum.unserved += count;
      sum.unservedMailboxes++;
      sum.oldestUnservedSeconds = Math.max(sum.oldestUnservedSeconds, age);
    }
  }
  return sum;
}

/** Attachments to the mailboxes of a broker, and the windows of the workers among them. */
export interface Attached {
  workers: number;
  listeners: number;
  /** Tasks that they hold, and that they would still take. */
  usedCredit: number;
  freeCredit: number;
}

/** Counts them all. */
export function attached(owners: readonly Owner[]): Attached {
  const sum: Attached = { workers: 0, listeners: 0, usedCredit: 0, freeCredit: 0 };
  for (const { subscriptions } of owners) {
    for (const mailbox of subscriptions.mailboxes()) {
      sum.listeners += subscriptions.listeners(mailbox).length;
      for (const { window, inFlight } of subscriptions.workers(mailbox)) {
        sum.workers++;
        sum.usedCredit += inFlight;
        sum.freeCredit += Math.max(0, window - inFlight);
      }
    }
  }
  return sum;
}
