#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { systemClock } from '../std/system.ts';
import { Cli } from './cli.ts';
import { run } from './run.ts';
import { terminalOf } from './terminal.ts';

const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
const { version } = JSON.parse(manifest) as { version: string };

// What it writes to standard error comes as an error, too.
setLogVerbosity(logVerbosity.NONE);

// Whoever reads us may stop when it has enough: `agenthub task list | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

const code = await run(process.argv.slice(2), new Cli(terminalOf(process), systemClock, version));
// What was written to a pipe may still be on its way.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
