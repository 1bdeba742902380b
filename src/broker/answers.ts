import type { Awaited } from '../core/awaiting.ts';
import { isIn } from '../core/namespace.ts';
import { Outcome } from '../core/shard-state.ts';
import { Kind, State } from '../core/task-table.ts';
import { Decided } from './holds.ts';
import type { Owner } from './owner.ts';
import type { Serving } from './tasks.ts';
import { findTask } from './tasks.ts';

/** A task as an agent means it that names only its id and itself. */
export type Asked =
  /** It was delivered without a lease, and no last result has come. */
  | { readonly state: 'awaited'; readonly owner: Owner; readonly awaited: Awaited }
  /** It is in its mailbox, or somebody holds it. */
  | { readonly state: 'live'; readonly owner: Owner; readonly slot: number }
  /** It has ended with that outcome, or is about to (0). */
  | { readonly state: 'ended'; readonly outcome: number };

/** Who asked for a task, and how. */
export interface Requester {
  readonly requester: string;
  /** The session that published it, or ''. */
  readonly origin: string;
  /** Its mailbox. */
  readonly to: string;
  readonly type: string;
}

/**
 * Which task of that mailbox an answer by name is for; its shard is served here. `undefined` if no such task
 * is known there.
 */
export function askedIn(broker: Serving, mailbox: string, id: string): Asked | undefined {
  const owner = broker.servedHere(mailbox);
  const awaited = owner.endings.awaited(id, mailbox);
  if (awaited) return { state: 'awaited', owner, awaited };
  const found = findTask(broker, mailbox, id);
  if (!found) return undefined;
  if (!('slot' in found)) {
    const { outcome } = found;
    return outcome === 0 || outcome === Outcome.delivered ? undefined : { state: 'ended', outcome };
  }
  const { slot } = found;
  const { state, holds } = owner;
  if (state.tasks.kind[slot] !== Kind.task) return undefined;
  const over = holds.decided[slot] === Decided.ending || state.tasks.state[slot] === State.dead;
  return over ? { state: 'ended', outcome: 0 } : { state: 'live', owner, slot };
}

/** The mailbox, in that namespace, of a task of that id that was delivered without a lease and awaits its result. */
export function awaitedIn(owners: Iterable<Owner>, namespace: string, id: string): string | undefined {
  const fits = (mailbox: string): boolean => isIn(namespace, mailbox);
  for (const owner of owners) {
    const awaited = owner.endings.awaitedWhere(id, fits);
    if (awaited) return awaited.mailbox;
  }
  return undefined;
}

/** Who asked for it, unless it has ended. */
export function requesterOf(asked: Asked): Requester | undefined {
  if (asked.state === 'awaited') {
    const { requester, mailbox, type } = asked.awaited;
    const [agent = '', origin = ''] = requester.split('#');
    return { requester: agent, origin, to: mailbox, type };
  }
  if (asked.state === 'ended') return undefined;
  const { owner, slot } = asked;
  const { requester, type } = owner.endings.facts(slot);
  const { tasks, mailboxes } = owner.state;
  return { requester, origin: owner.endings.origin(slot), to: mailboxes.name(tasks.mailbox[slot]!), type };
}
