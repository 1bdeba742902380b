import type { Command } from 'commander';
import type { TaskQuery } from '../client/index.ts';
import { HubError } from '../std/errors.ts';
import { browse, TaskInfo } from '../client/browse.ts';
import { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { Caller } from './caller.ts';
import type { Cli } from './cli.ts';
import { bytes, span } from './format.ts';
import { figures } from './output.ts';
import { taskView } from './views.ts';

/** What is known of a task, with what it carries; undefined: nothing. Without its mailbox, all shards are searched. */
export async function getTask(broker: Caller, id: string, mailbox = ''): Promise<TaskInfo | undefined> {
  try {
    const { task } = await broker.call(Broker.method.getTask, { taskId: id, mailbox, includeTask: true });
    return task && new TaskInfo(task);
  } catch (error) {
    if (error instanceof HubError && error.code === 'not_found') return undefined;
    throw error;
  }
}

/** Unfinished tasks and dead letters, page by page as they are asked for. */
export function listTasks(broker: Caller, query: TaskQuery): AsyncIterable<TaskInfo> {
  return browse((request) => broker.call(Broker.method.listTasks, request), query);
}

/** Shows tasks as a list. `none` is what people read instead of an empty one. */
export function showTasks(cli: Cli, command: Command, tasks: readonly TaskInfo[], none: string): void {
  const output = cli.output(command);
  if (output.json) return output.document(tasks.map(taskView));
  const now = cli.clock.now();
  const columns = [
    { head: 'ID', value: ({ id }: TaskInfo) => id },
    { head: 'MAILBOX', value: ({ mailbox }: TaskInfo) => mailbox },
    { head: 'STATE', value: ({ state }: TaskInfo) => state },
    { head: 'TYPE', value: ({ type }: TaskInfo) => type },
    { head: 'PRIORITY', value: ({ priority }: TaskInfo) => priority },
    figures('ATTEMPTS', ({ attempts, maxAttempts }: TaskInfo) => `${attempts}/${maxAttempts}`),
    figures('SIZE', ({ payloadBytes }: TaskInfo) => bytes(payloadBytes)),
    figures('AGE', ({ acceptedAtMs }: TaskInfo) => span(now - acceptedAtMs)),
    {
      head: 'WHY',
      value: ({ deadReason, deadError }: TaskInfo) => [deadReason, deadError].filter(Boolean).join(': '),
    },
  ];
  const dead = tasks.some(({ state }) => state === 'dead');
  output.list(tasks, dead ? columns : columns.slice(0, -1), none);
}
