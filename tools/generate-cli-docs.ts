import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { Command } from 'commander';
import { Cli } from '../src/cli/cli.ts';
import { createProgram } from '../src/cli/program.ts';
import { systemClock } from '../src/std/system.ts';

const INTRODUCTION = `# The command line

<!-- Written by tools/generate-cli-docs.ts from src/cli; make generate writes it again. -->

\`agenthub <noun> <verb>\`. Tables are for people; with \`-o json\` every command writes one JSON document, and
commands that go on for as long as they are let (\`work\`, \`top\`, \`task result --follow\`) a line of JSON for each event.
What a command has found goes to standard output, everything else to standard error. An error is one line
and, where there is something to do, a hint; with \`-o json\` it is a line of JSON:
\`{"error":{"code":"not_found","message":"…"}}\`. In a checkout, \`node_modules/.bin/node src/cli/main.ts\` is \`agenthub\`.`;

/** Which options all commands have is said once. */
const GLOBAL = /\nGlobal Options:\n(?: .*\n)+/;

function* leaves(command: Command): Generator<Command> {
  if (command.commands.length === 0) yield command;
  for (const inner of command.commands) yield* leaves(inner);
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

function helpOf(command: Command): string {
  let text = '';
  const write = (part: string): void => {
    text += part;
  };
  command.configureOutput({ writeOut: write, getOutHelpWidth: () => 110, getOutHasColors: () => false });
  command.outputHelp();
  return text.replace(command.parent === null ? '' : GLOBAL, '').trim();
}

function section(command: Command): string {
  return `## ${nameOf(command)}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\``;
}

const nowhere = new PassThrough();
const terminal = {
  stdin: nowhere,
  stdout: nowhere,
  stderr: nowhere,
  env: {},
  untilInterrupted() {
    throw new Error('no command is run');
  },
};
const program = createProgram(new Cli(terminal, systemClock, '0.0.0'));
const folder = join(process.argv[2] ?? '.', 'docs');
const parts = [INTRODUCTION, section(program), ...[...leaves(program)].map(section)];
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'cli.md'), `${parts.join('\n\n')}\n`);
