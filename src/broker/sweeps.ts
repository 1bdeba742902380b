import { checkQualified } from '../core/namespace.ts';
import { deadMailbox } from '../core/shard.ts';
import { State } from '../core/task-table.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Broker } from './broker.ts';
import type { Owner } from './owner.ts';
import { scanTasks } from './tasks.ts';

/** Tasks that one turn acts on, before others have theirs. */
const SLICE = 5000;

/** What to sweep: tasks of one mailbox; of those ids, or all. */
export interface Sweep {
  readonly mailbox: string;
  readonly taskIds: readonly string[];
}

/**
 * Deletes what waits in a mailbox: queued work, dead letters, or results with all their lanes. Nobody
 * is told; what a worker holds stays. `done` gets the count once it is as durable as the log.
 */
export function purge(
  broker: Broker,
  clock: Clock,
  { mailbox, taskIds }: Sweep,
  done: (count: number) => void,
): void {
  checkQualified(mailbox, 'mailbox');
  sweep(broker, clock, mailbox, taskIds, (owner, slot) => owner.purge(slot), done);
}

/** Puts dead letters back into the mailbox they came from, in their old order, as if they were new. */
export function replay(
  broker: Broker,
  clock: Clock,
  { mailbox, taskIds }: Sweep,
  done: (count: number) => void,
): void {
  if (mailbox.startsWith(deadMailbox(''))) {
    throw new HubError('invalid', 'mailbox: name the mailbox they came from, without "dead:"', {
      field: 'mailbox',
    });
  }
  checkQualified(mailbox, 'mailbox');
  sweep(broker, clock, deadMailbox(mailbox), taskIds, (owner, slot) => owner.revive(slot), done);
}

function sweep(
  broker: Broker,
  clock: Clock,
  mailbox: string,
  taskIds: readonly string[],
  act: (owner: Owner, slot: number) => boolean,
  done: (count: number) => void,
): void {
  const owner = broker.servedHere(mailbox);
  if (!owner.serving)
    throw new HubError('unavailable', 'the shard is being taken over; try again', { retryAfterMs: 100 });
  const { state, journal } = owner;
  const { tasks, mailboxes } = state;
  const ids = new Set(taskIds);
  const lanes = `${mailbox}#`;
  const found: { slot: number; order: number; tag: number }[] = [];
  const visit = (_owner: Owner, slot: number): boolean => {
    const name = mailboxes.name(tasks.mailbox[slot]!);
    const here = name === mailbox || (name.startsWith(lanes) && mailbox.startsWith('reply:'));
    if (!here || tasks.state[slot] === State.leased) return true;
    if (ids.size > 0 && !ids.has(owner.endings.facts(slot).id)) return true;
    found.push({ slot, order: tasks.order[slot]!, tag: tasks.tag[slot]! });
    return true;
  };
  scanTasks({ owners: [owner] }, clock, visit, () => {
    found.sort((a, b) => a.order - b.order);
    let count = 0;
    const step = (from: number): void => {
      for (const { slot, order, tag } of found.slice(from, from + SLICE)) {
        if (state.find(order, tag, slot) === slot && act(owner, slot)) count++;
      }
      if (from + SLICE < found.length) clock.soon(() => step(from + SLICE));
      else if (count === 0) done(0);
      else journal.after(() => done(count));
    };
    step(0);
  });
}
