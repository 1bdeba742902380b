import type { Command } from 'commander';
import { TaskInfo } from '../../client/browse.ts';
import { HubError } from '../../std/errors.ts';
import type { TaskWait } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import { Broker, WaitCause } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { count, span, time } from '../format.ts';
import { examples } from '../options.ts';
import { taskFacts, taskView } from '../views.ts';

/** `agenthub task why` */
export function addTaskWhy(task: Command, cli: Cli): void {
  const command = task
    .command('why')
    .description('Say where a task is and what it waits for, or how it has ended')
    .argument('<id>', "the task's id")
    .option('--mailbox <mailbox>', 'its mailbox; without it, all shards are searched')
    .addHelpText(
      'after',
      examples(
        ['agenthub task why 7f3a-0', 'of any broker, whichever has it'],
        ['agenthub task why order-17 --mailbox planner -o json', 'for a program'],
      ),
    )
    .action(async (id: string, { mailbox = '' }: { mailbox?: string }) => {
      using broker = cli.caller(command);
      const request = { taskId: id, mailbox, explain: true };
      const { task, wait } = await broker.call(Broker.method.getTask, request);
      if (task === undefined) throw new HubError('not_found', `no task ${id}`);
      const info = new TaskInfo(task);
      const now = cli.clock.now();
      const why = sentenceOf(info, wait, now);
      const view = { ...taskView(info), why, ...(wait ? { wait: waitView(wait) } : {}) };
      cli.output(command).item(view, { why, ...taskFacts(info, now), ...waitFacts(info, wait) });
    });
}

const CAUSES: Readonly<Record<WaitCause, string>> = {
  [WaitCause.UNSPECIFIED]: 'unknown',
  [WaitCause.TURN]: 'turn',
  [WaitCause.DELAY]: 'delay',
  [WaitCause.BACKOFF]: 'backoff',
  [WaitCause.NO_WORKER]: 'no-worker',
  [WaitCause.TYPE]: 'type',
  [WaitCause.CREDIT]: 'credit',
  [WaitCause.WORK]: 'work',
  [WaitCause.LOG]: 'log',
  [WaitCause.OWNER]: 'owner',
  [WaitCause.ENDING]: 'ending',
};

/** What keeps a task from being done, for programs. */
function waitView(wait: TaskWait): object {
  const { broker, ahead, workers, willing, credit, untilMs, heldSinceMs, holderGone } = wait;
  return {
    cause: CAUSES[wait.cause],
    broker,
    ...(heldSinceMs > 0n
      ? { heldSince: time(Number(heldSinceMs)), holderGone }
      : { ahead, workers, willing, credit }),
    ...(untilMs > 0n ? { until: time(Number(untilMs)) } : {}),
  };
}

function waitFacts(info: TaskInfo, wait: TaskWait | undefined): Record<string, string | number | undefined> {
  if (wait === undefined) return {};
  const held = wait.heldSinceMs > 0n;
  return {
    shard: `${info.shard} at ${wait.broker}`,
    'before it': held ? undefined : count(wait.ahead),
    workers: held ? undefined : `${wait.workers}, of which ${wait.willing} take its type`,
    credit: held ? undefined : count(wait.credit),
  };
}

/** Why a task is where it is, in a sentence that says what can be done. */
export function sentenceOf(info: TaskInfo, wait: TaskWait | undefined, now: number): string {
  const { mailbox, state, type } = info;
  if (wait === undefined) return endOf(info, now);
  const turn = wait.ahead === 0 ? 'it is the next one' : `${count(wait.ahead)} tasks come before it`;
  const until = span(Number(wait.untilMs) - now);
  switch (wait.cause) {
    case WaitCause.TURN:
      return `it is delivered in its turn: ${turn} in ${mailbox}`;
    case WaitCause.DELAY:
      return `its publisher wants it delivered in ${until}, not before`;
    case WaitCause.BACKOFF:
      return `attempt ${info.attempts} of ${info.maxAttempts} has failed; the next one is in ${until}`;
    case WaitCause.NO_WORKER:
      return `nobody works on ${mailbox}: start a worker for it (agenthub agents lists those there are); ${turn}`;
    case WaitCause.TYPE:
      return `none of the ${count(wait.workers)} workers of ${mailbox} takes tasks of type ${type === '' ? '"" (none)' : type}: start one that does`;
    case WaitCause.CREDIT:
      return `all ${count(wait.willing)} workers that take it are busy: ${turn}; more workers, or larger windows, would help`;
    case WaitCause.WORK: {
      const held = `${info.executor || 'a worker'} has it since ${span(now - Number(wait.heldSinceMs))} (session ${info.sessionId}, attempt ${info.attempts + 1} of ${info.maxAttempts})`;
      return wait.holderGone
        ? `${held}, and is not attached any more: it may come back until its grace ends`
        : held;
    }
    case WaitCause.LOG:
      return 'the log is almost full: nothing is delivered until what runs has ended, or the log gets more room';
    case WaitCause.OWNER:
      return `${wait.broker} delivers nothing of shard ${info.shard} just now: it takes the shard over, it drains, or its log does not answer`;
    case WaitCause.ENDING:
      return 'its end is decided, and is being written to the log';
    default:
      return `it is ${state}`;
  }
}

function endOf(info: TaskInfo, now: number): string {
  const { state, mailbox, id, deadReason, deadError, deadAtMs = now } = info;
  switch (state) {
    case 'dead': {
      const error = deadError === '' ? '' : `: ${deadError}`;
      const again = `agenthub dead replay ${mailbox.replace(/^dead:/, '')} ${id}`;
      return `the broker gave up on it ${span(now - deadAtMs)} ago, ${deadReason}${error}; ${again} tries again`;
    }
    case 'succeeded':
      return 'it has ended: a worker completed it';
    case 'failed':
      return 'it has ended: a worker failed it for good, or its attempts were used up';
    case 'cancelled':
      return 'it has ended: it was cancelled';
    case 'expired':
      return 'it has ended: its deadline or its retention passed';
    case 'delivered':
      return 'it has ended: it was written to a subscriber whose protocol knows no answer';
    case 'finished':
      return 'it has ended; how is not remembered any more';
    default:
      return `it is ${state}`;
  }
}
