import type { MessageInitShape } from '@bufbuild/protobuf';
import { fromBinary } from '@bufbuild/protobuf';
import { Outcome } from '../core/shard-state.ts';
import { checkQualified } from '../core/namespace.ts';
import { Flag, Kind, NONE, State } from '../core/task-table.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { MAX_ID_BYTES, priorityOf, taskHash } from '../wire/envelope.ts';
import type { TaskViewSchema } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { TaskState } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import { TaskSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import { entryBody, entryMaxAttempts } from '../wire/entry.ts';
import { Decided } from './holds.ts';
import type { Owner } from './owner.ts';
import type { ProgressDesk } from './progress.ts';

/** A task as it is shown. */
export type TaskView = MessageInitShape<typeof TaskViewSchema>;

/** Where tasks of a mailbox are found. Throws HubError `unavailable` if that is not here. */
export interface Serving {
  servedHere(mailbox: string): Owner;
}

/** Shards that are searched. */
export interface Searched {
  readonly owners: readonly Owner[];
}

/** What is known of tasks beside their shard. */
export interface Beside {
  readonly progress: Pick<ProgressDesk, 'of'>;
}

/** Slots that a search looks at before others have their turn. */
const SLICE = 20_000;

/** A task that was found: live, or ended with an outcome (0: it is not remembered which). */
export type Found =
  { readonly owner: Owner; readonly slot: number } | { readonly owner: Owner; readonly outcome: number };

const ENDED: Record<number, TaskState> = {
  [Outcome.succeeded]: TaskState.SUCCEEDED,
  [Outcome.failed]: TaskState.FAILED,
  [Outcome.cancelled]: TaskState.CANCELLED,
  [Outcome.expired]: TaskState.EXPIRED,
  [Outcome.delivered]: TaskState.DELIVERED,
};

/** The state that a remembered outcome stands for. */
export function endedState(outcome: number): TaskState {
  return ENDED[outcome] ?? TaskState.FINISHED;
}

/** Finds a task by mailbox and id. Throws HubError `invalid` for ids that can't be. */
export function findTask(broker: Serving, mailbox: string, id: string): Found | undefined {
  checkTaskId(id);
  checkQualified(mailbox, 'mailbox');
  return findTaskIn([broker.servedHere(mailbox)], mailbox, id);
}

/** Finds a task by mailbox and id in one of those shards, wherever the mailbox lives now. */
export function findTaskIn(owners: readonly Owner[], mailbox: string, id: string): Found | undefined {
  checkTaskId(id);
  checkQualified(mailbox, 'mailbox');
  const hash = new Uint32Array(4);
  const living = mailbox.startsWith('dead:') ? mailbox.slice('dead:'.length) : mailbox;
  let ended: Found | undefined;
  for (const owner of owners) {
    taskHash(owner.idKey, living, id, hash);
    const { slot, outcome } = owner.lookUp(hash);
    if (slot !== NONE) return { owner, slot };
    if (outcome !== undefined && outcome !== Outcome.moved) ended = { owner, outcome };
  }
  return ended;
}

/** Which tasks are looked for. */
export interface Wanted {
  readonly id: string;
  /** Whether they may be in that mailbox. */
  readonly fits: (mailbox: string) => boolean;
  /** How many are enough. */
  readonly most: number;
}

/** Finds live tasks by their id: looks at all tasks of all shards, a slice at a time. */
export function searchTasks(
  broker: Searched,
  clock: Clock,
  { id, fits, most }: Wanted,
  found: (found: readonly Found[]) => void,
): void {
  checkTaskId(id);
  const results: Found[] = [];
  scanTasks(
    broker,
    clock,
    (owner, slot) => {
      const { tasks, mailboxes } = owner.state;
      if (tasks.kind[slot] !== Kind.task || owner.endings.facts(slot).id !== id) return true;
      if (!fits(mailboxes.name(tasks.mailbox[slot]!))) return true;
      results.push({ owner, slot });
      return results.length < most;
    },
    () => found(results),
  );
}

/**
 * Calls `visit` for every task, shard by shard, until it answers false; then `done`. The loop has its
 * turn in between, so tasks that come or go meanwhile may or may not be seen.
 */
export function scanTasks(
  broker: Searched,
  clock: Clock,
  visit: (owner: Owner, slot: number) => boolean,
  done: () => void,
): void {
  let shard = 0;
  let slot = 0;
  const step = (): void => {
    for (let left = SLICE; left > 0; left--) {
      const owner = broker.owners[shard];
      if (!owner) return done();
      if (slot >= owner.state.tasks.end) {
        shard++;
        slot = 0;
      } else {
        if (owner.state.tasks.state[slot] !== State.free && !visit(owner, slot)) return done();
        slot++;
      }
    }
    clock.soon(step);
  };
  step();
}

/** Cancels what was found. */
export function cancelFound(
  found: Found | undefined,
  reason: string,
  answer: (outcome: CancelOutcome) => void,
): void {
  if (!found) return answer(CancelOutcome.NOT_FOUND);
  const cancelled =
    'slot' in found && found.owner.cancel(found.slot, reason, () => answer(CancelOutcome.CANCELLED));
  if (!cancelled) answer(CancelOutcome.TOO_LATE);
}

/** What there is to see of a task. */
export function viewTask(
  broker: Beside,
  found: Found,
  id: string,
  mailbox: string,
  now: number,
  whole: boolean,
): TaskView {
  if (!('slot' in found)) return { id, mailbox, state: endedState(found.outcome), shard: found.owner.shard };
  return viewSlot(broker, found.owner, found.slot, now, whole);
}

/** What there is to see of a live task. */
export function viewSlot(broker: Beside, owner: Owner, slot: number, now: number, whole: boolean): TaskView {
  const { state } = owner;
  const { tasks } = state;
  const bytes = state.batches.bytes(tasks.batch[slot]!);
  const body = entryBody(bytes, tasks.offset[slot]!);
  const facts = owner.endings.facts(slot);
  const mailbox = state.mailboxes.name(tasks.mailbox[slot]!);
  const death = state.deaths.get(slot);
  const holder = owner.holders.holderOf(slot);
  const progress = broker.progress.of(owner.endings.addressee(slot), facts.id);
  return {
    id: facts.id,
    mailbox,
    state: stateOf(owner, slot, now),
    type: facts.type,
    requester: facts.requester,
    priority: priorityOf(tasks.priority[slot]!),
    attempts: tasks.attempts[slot]!,
    maxAttempts: entryMaxAttempts(bytes, tasks.offset[slot]!) || owner.endings.defaultMaxAttempts,
    acceptedAtMs: BigInt(Math.floor(tasks.accepted[slot]!)),
    notBeforeMs: BigInt(Math.floor(tasks.notBefore[slot]!)),
    deadlineMs: tasks.flags[slot]! & Flag.deadline ? BigInt(Math.floor(tasks.deadline[slot]!)) : 0n,
    sessionId: holder,
    executor: owner.holders.executor(slot),
    payloadBytes: body.length,
    shard: owner.shard,
    ...(death
      ? { deadReason: death.reason, deadError: death.error, deadAtMs: BigInt(Math.floor(death.at)) }
      : {}),
    ...(progress ? { progress } : {}),
    ...(whole && tasks.kind[slot] !== Kind.result ? { task: fromBinary(TaskSchema, body) } : {}),
  };
}

/** What a live task is doing. */
export function stateOf(owner: Owner, slot: number, now: number): TaskState {
  const { tasks } = owner.state;
  if (tasks.state[slot] === State.dead) return TaskState.DEAD;
  if (tasks.state[slot] === State.leased || owner.holds.decided[slot] === Decided.leasing)
    return TaskState.RUNNING;
  return tasks.notBefore[slot]! > now ? TaskState.DELAYED : TaskState.QUEUED;
}

/** Throws HubError `invalid` for what can't be the id of a task. */
export function checkTaskId(id: string): void {
  if (id === '') throw new HubError('invalid', 'task_id must not be empty', { field: 'task_id' });
  if (Buffer.byteLength(id) > MAX_ID_BYTES) {
    throw new HubError('invalid', `task_id must have at most ${MAX_ID_BYTES} bytes`, { field: 'task_id' });
  }
}
