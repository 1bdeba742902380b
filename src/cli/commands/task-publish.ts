import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';
import type { Command } from 'commander';
import { Option } from 'commander';
import type { Durability, Hub, Priority, TaskInput } from '../../client/index.ts';
import { HubError } from '../../std/errors.ts';
import type { Cli } from '../cli.ts';
import { count } from '../format.ts';
import { aDuration, examples, several, whole } from '../options.ts';
import { Progress } from '../progress.ts';
import { resultView } from '../views.ts';

interface Flags {
  readonly file?: string;
  readonly lines?: boolean;
  readonly type?: string;
  readonly id?: string;
  readonly requester?: string;
  readonly priority?: Priority;
  readonly deadline?: number;
  readonly delay?: number;
  readonly maxAttempts?: number;
  readonly backoff?: number;
  readonly maxRun?: number;
  readonly contentType?: string;
  readonly header?: readonly string[];
  readonly context?: string;
  readonly durability?: Durability;
  readonly wait?: boolean;
  readonly timeout?: number;
}

const BATCH = 1000;

/** `agenthub task publish` */
export function addTaskPublish(task: Command, cli: Cli): void {
  const command = task
    .command('publish')
    .description(
      'Publish a task. It is accepted, as durably as the broker keeps tasks, when this ends with 0',
    )
    .argument('<mailbox>', "an agent's id, type:<task type> for whoever can do it, or * for every agent")
    .argument('[payload]', 'what the task carries; - reads it from standard input')
    .option('--file <path>', 'take the payload from a file')
    .option('--lines', 'publish each line of standard input as a task of its own')
    .option('--type <type>', 'kind of work (default: that of type:<task type>)')
    .option('--id <id>', 'publishing the same id again has no effect (default: a new one)')
    .option('--requester <agent>', 'keep the result for this agent')
    .addOption(
      new Option('--priority <level>', 'higher ones go first (default: medium)').choices([
        'low',
        'medium',
        'high',
        'critical',
        'urgent',
      ]),
    )
    .option('--deadline <duration>', 'do not deliver it later than this from now', aDuration)
    .option('--delay <duration>', 'do not deliver it sooner than this from now', aDuration)
    .option('--max-attempts <number>', 'attempts before it is a dead letter', whole(1, 255))
    .option('--backoff <duration>', 'pause before the second attempt; it doubles', aDuration)
    .option('--max-run <duration>', 'longest time of one attempt', aDuration)
    .option('--content-type <type>', 'media type of the payload (default: text/plain for text)')
    .option('--header <name=value>', 'a small fact beside the payload; may be repeated', several)
    .option('--context <id>', 'the conversation it belongs to')
    .addOption(
      new Option('--durability <level>', 'refuse a broker that keeps tasks less safely').choices([
        'memory',
        'stored',
        'replicated',
        'synced',
      ]),
    )
    .option('--wait', 'wait for the result and print what it carries; Ctrl-C cancels the task')
    .option('--timeout <duration>', 'cancel the task if it has no result by then; with --wait', aDuration)
    .addHelpText(
      'after',
      examples(
        ["agenthub task publish planner 'plan my week'", 'one task for one agent'],
        [
          'agenthub task publish type:summarize --file report.txt --wait',
          'whoever can summarize; print the summary',
        ],
        ['seq 1000 | agenthub task publish counter --lines', 'a thousand tasks'],
        ["agenthub task publish ops '{}' --content-type application/json --delay 1h", 'in an hour'],
      ),
    )
    .action((mailbox: string, payload: string | undefined, flags: Flags) =>
      publish(cli, command, mailbox, payload, flags),
    );
}

async function publish(
  cli: Cli,
  command: Command,
  mailbox: string,
  payload: string | undefined,
  flags: Flags,
): Promise<void> {
  const now = cli.clock.now();
  const base = taskOf(mailbox, flags, now);
  if (flags.lines) {
    if (payload !== undefined || flags.file !== undefined || flags.wait || flags.id !== undefined) {
      throw wrong(
        '--lines',
        'takes its payloads from standard input, and goes with no payload, --file, --id or --wait',
      );
    }
    await using hub = await cli.connect(command, flags.requester);
    // Awaited here: the connection ends with this function.
    return await publishLines(cli, command, hub, base, flags);
  }
  const task = { ...base, payload: await payloadOf(cli, payload, flags) };
  if (flags.timeout !== undefined && !flags.wait) throw wrong('--timeout', 'goes with --wait');
  const output = cli.output(command);
  using interruption = cli.terminal.untilInterrupted();
  await using hub = await cli.connect(command, flags.requester);
  const durability = flags.durability === undefined ? {} : { durability: flags.durability };
  if (flags.wait) {
    const result = await hub.request(task, {
      ...durability,
      signal: interruption.signal,
      ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
    });
    if (output.json) output.document(resultView(result));
    else {
      output.raw(result.payload);
      if (cli.terminal.stdout.isTTY && result.payload.at(-1) !== LINE_FEED) output.say('');
    }
    return;
  }
  const handle = await hub.publish(task, durability);
  output.item(handle, { ...handle });
}

/** Publishes lines in batches; stops at the first refusal. */
async function publishLines(
  cli: Cli,
  command: Command,
  hub: Hub,
  base: TaskInput,
  flags: Flags,
): Promise<void> {
  using progress = new Progress(cli.terminal.stderr, 'publishing', 0);
  const durability = flags.durability === undefined ? {} : { durability: flags.durability };
  let accepted = 0;
  let batch: TaskInput[] = [];
  const send = async (): Promise<void> => {
    if (batch.length === 0) return;
    const { outcomes } = await hub.publishBatch(batch, durability);
    batch = [];
    accepted += outcomes.filter(({ error }) => error === undefined).length;
    progress.update(accepted, `${count(accepted)} accepted`);
    const refused = outcomes.find(({ error }) => error !== undefined)?.error;
    if (refused !== undefined) {
      const { code, message, field, limit, retryAfterMs } = refused;
      throw new HubError(code, `after ${accepted} accepted tasks: ${message}`, {
        ...(field === undefined ? {} : { field }),
        ...(limit === undefined ? {} : { limit }),
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
        cause: refused,
      });
    }
  };
  for await (const line of createInterface({ input: cli.terminal.stdin, crlfDelay: Infinity })) {
    batch.push({ ...base, payload: line });
    if (batch.length === BATCH) await send();
  }
  await send();
  cli.output(command).item({ accepted }, { accepted: count(accepted) });
}

const LINE_FEED = 10;

function taskOf(mailbox: string, flags: Flags, now: number): TaskInput {
  const type = flags.type ?? (mailbox.startsWith('type:') ? mailbox.slice('type:'.length) : undefined);
  const { id, priority, delay, maxAttempts, backoff, maxRun, contentType, context, deadline, header } = flags;
  return {
    to: mailbox,
    ...(type === undefined ? {} : { type }),
    ...(id === undefined ? {} : { id }),
    ...(priority === undefined ? {} : { priority }),
    ...(delay === undefined ? {} : { delay }),
    ...(deadline === undefined ? {} : { deadline: now + deadline }),
    ...(maxAttempts === undefined ? {} : { maxAttempts }),
    ...(backoff === undefined ? {} : { backoffMs: backoff }),
    ...(maxRun === undefined ? {} : { maxRunMs: maxRun }),
    ...(contentType === undefined ? {} : { contentType }),
    ...(context === undefined ? {} : { contextId: context }),
    ...(header === undefined ? {} : { headers: Object.fromEntries(header.map(headerOf)) }),
  };
}

function headerOf(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw wrong('--header', `must be name=value, not ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

async function payloadOf(
  cli: Cli,
  payload: string | undefined,
  { file }: Flags,
): Promise<string | Uint8Array> {
  if (file !== undefined && payload !== undefined) throw wrong('--file', 'goes with no other payload');
  if (payload === '-') return buffer(cli.terminal.stdin);
  if (file === undefined) return payload ?? new Uint8Array(0);
  try {
    return await readFile(file);
  } catch (error) {
    throw new HubError('invalid', `the payload in ${file} can't be read: ${String(error)}`, {
      field: '--file',
      cause: error,
    });
  }
}

function wrong(flag: string, what: string): HubError {
  return new HubError('invalid', `${flag} ${what}`, { field: flag });
}
