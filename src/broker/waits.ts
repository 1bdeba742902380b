import type { MessageInitShape } from '@bufbuild/protobuf';
import { State } from '../core/task-table.ts';
import { takes } from '../core/subscription.ts';
import type { TaskWaitSchema } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { WaitCause } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { Decided } from './holds.ts';
import type { Owner } from './owner.ts';

/** What a task waits for, as it is told. */
type Wait = MessageInitShape<typeof TaskWaitSchema>;

/** Tasks that come before it are counted up to this number. */
const MOST_AHEAD = 100_000;

/** What keeps a live task from being done; `undefined` of a dead letter. */
export function waitOf(owner: Owner, slot: number, now: number): Wait | undefined {
  const { state, ready, subscriptions, holds, holders } = owner;
  const { tasks, types } = state;
  if (tasks.state[slot] === State.dead) return undefined;
  if (holds.decided[slot] === Decided.ending) return { cause: WaitCause.ENDING };
  if (holders.isHeld(slot)) {
    return {
      cause: WaitCause.WORK,
      heldSinceMs: milliseconds(holds.deliveredAt[slot]!),
      holderGone: holders.consumer(slot) === undefined,
    };
  }
  const untilMs = tasks.notBefore[slot]!;
  const workers = subscriptions.workers(tasks.mailbox[slot]!);
  const type = types.text(tasks.type[slot]!);
  const willing = workers.filter((worker) => takes(worker, type));
  const credit = willing.reduce((sum, { window, inFlight }) => sum + Math.max(0, window - inFlight), 0);
  const common = {
    ahead: ready.has(slot) ? ready.ahead(slot, MOST_AHEAD) : 0,
    workers: workers.length,
    willing: willing.length,
    credit,
    ...(untilMs > now ? { untilMs: milliseconds(untilMs) } : {}),
  };
  const cause = (): WaitCause => {
    if (untilMs > now) return tasks.attempts[slot]! > 0 ? WaitCause.BACKOFF : WaitCause.DELAY;
    if (workers.length === 0) return WaitCause.NO_WORKER;
    if (willing.length === 0) return WaitCause.TYPE;
    if (!owner.delivers(now)) return WaitCause.OWNER;
    if (credit === 0) return WaitCause.CREDIT;
    return owner.starved ? WaitCause.LOG : WaitCause.TURN;
  };
  return { ...common, cause: cause() };
}

function milliseconds(time: number): bigint {
  return BigInt(Math.floor(time));
}
