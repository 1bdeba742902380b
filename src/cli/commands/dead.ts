import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addDeadLs } from './dead-ls.ts';
import { addDeadPurge } from './dead-purge.ts';
import { addDeadReplay } from './dead-replay.ts';
import { addDeadShow } from './dead-show.ts';

/** `agenthub dead` */
export function addDead(program: Command, cli: Cli): void {
  const dead = program
    .command('dead')
    .description('Look at dead letters: tasks that the broker gave up on; replay or purge them');
  addDeadLs(dead, cli);
  addDeadShow(dead, cli);
  addDeadReplay(dead, cli);
  addDeadPurge(dead, cli);
}
