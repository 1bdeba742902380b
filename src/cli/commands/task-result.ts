import { fromBinary } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { HubError } from '../../std/errors.ts';
import type { Delivery } from '../../client/index.ts';
import { TaskResult } from '../../client/messages.ts';
import { replyMailbox } from '../../core/shard.ts';
import { ResultSchema } from '../../wire/gen/agenthub/v1/task_pb.ts';
import type { Cli } from '../cli.ts';
import { span } from '../format.ts';
import { durationOption, examples, whole } from '../options.ts';
import { resultView, shown } from '../views.ts';

interface Flags {
  readonly follow?: boolean;
  readonly limit?: number;
  readonly wait: number;
}

/** As many results may be looked at to find one. */
const WINDOW = 4096;

/** `agenthub task result` */
export function addTaskResult(task: Command, cli: Cli): void {
  const command = task
    .command('result')
    .summary('Take the results that wait for an agent')
    .description(
      'Take the results that wait for an agent: each is printed, and then gone. ' +
        'Results go first to the session that published the task; these are what was left.',
    )
    .argument('<requester>', 'the agent that asked')
    .argument('[id]', 'only the result of this task; the others stay')
    .option('--follow', 'go on with those that come')
    .option('--limit <number>', 'at most so many', whole(1))
    .addOption(durationOption('--wait', 'end when none has come for so long', '1s'))
    .addHelpText(
      'after',
      examples(
        ['agenthub task result alice', 'all that wait for alice'],
        ['agenthub task result alice order-17 --wait 1m', 'that one; exit code 4 if it does not come'],
        ['agenthub task result alice --follow -o json', 'a line of JSON for each, until Ctrl-C'],
      ),
    )
    .action((requester: string, id: string | undefined, flags: Flags) =>
      takeResults(cli, command, requester, id, flags),
    );
}

async function takeResults(
  cli: Cli,
  command: Command,
  requester: string,
  id: string | undefined,
  { follow = false, wait, limit = id === undefined ? Infinity : 1 }: Flags,
): Promise<void> {
  const output = cli.output(command);
  using interruption = cli.terminal.untilInterrupted();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  interruption.signal.addEventListener('abort', () => end());
  const doze = (): { cancel(): void } => (follow ? { cancel() {} } : cli.clock.after(wait, end));
  await using hub = await cli.connect(command, requester);
  let taken = 0;
  let timer = doze();
  await hub.workBatch(
    replyMailbox(requester),
    (deliveries, worker) => {
      timer.cancel();
      timer = doze();
      for (const delivery of deliveries) {
        if (taken >= limit) return end();
        const result = resultOf(delivery);
        // What is not taken goes back to its mailbox with the end of the session.
        if (id !== undefined && result.taskId !== id) continue;
        taken++;
        output.event(resultView(result), textOf(result));
        worker.complete(delivery);
      }
      if (taken >= limit) end();
    },
    { window: WINDOW },
  );
  await ended;
  timer.cancel();
  if (taken > 0 || interruption.signal.aborted) return;
  if (id !== undefined) {
    throw new HubError('not_found', `no result of task ${id} has come for ${requester} within ${span(wait)}`);
  }
  if (!output.json) output.say(`No results wait for ${requester}.`);
}

function resultOf({ frame, start, end }: Delivery): TaskResult {
  return new TaskResult(fromBinary(ResultSchema, frame.subarray(start, end)));
}

function textOf(result: TaskResult): string {
  const { taskId, mailbox, outcome, executor, error } = result;
  const by = executor === '' || executor === mailbox ? '' : ` by ${executor}`;
  const why = error === '' ? '' : `: ${error}`;
  return `${taskId} of ${mailbox} ${outcome}${by}${why}\n${shown(result)}`.trimEnd();
}
