import type { Awaited } from '../core/awaiting.ts';
import { Outcome } from '../core/shard-state.ts';
import { checkAgentId } from '../core/shard.ts';
import { Kind, State } from '../core/task-table.ts';
import { MAX_ID_BYTES } from '../wire/envelope.ts';
import type { Broker } from './broker.ts';
import { Decided } from './holds.ts';
import type { Owner } from './owner.ts';
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
 * Which task an answer by name is for: the one in the executor's own mailbox, else one of that id that
 * was delivered anywhere. `undefined` if no such task is known here.
 */
export function whoAsked(broker: Broker, executor: string, id: string): Asked | undefined {
  if (Buffer.byteLength(id) > MAX_ID_BYTES) return undefined;
  return inMailbox(broker, executor, id) ?? anywhere(broker, id);
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

function inMailbox(broker: Broker, executor: string, id: string): Asked | undefined {
  if (!isAgentId(executor)) return undefined;
  const owner = broker.servedHere(executor);
  const awaited = owner.endings.awaited(id, executor);
  if (awaited) return { state: 'awaited', owner, awaited };
  const found = findTask(broker, executor, id);
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

function isAgentId(text: string): boolean {
  try {
    checkAgentId(text, 'executor');
    return true;
  } catch {
    return false;
  }
}

function anywhere(broker: Broker, id: string): Asked | undefined {
  for (const owner of broker.owners) {
    const awaited = owner.endings.awaited(id);
    if (awaited) return { state: 'awaited', owner, awaited };
  }
  return undefined;
}
