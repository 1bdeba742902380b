import type { Command } from 'commander';
import type { TaskInfo } from '../client/index.ts';
import type { Cli } from './cli.ts';
import { bytes, span } from './format.ts';
import { figures } from './output.ts';
import { taskView } from './views.ts';

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
