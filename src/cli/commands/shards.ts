import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addShardsLs } from './shards-ls.ts';
import { addShardsMove } from './shards-move.ts';

/** `agenthub shards` */
export function addShards(program: Command, cli: Cli): void {
  const shards = program.command('shards').description('Look at the shards, and move one to another broker');
  addShardsLs(shards, cli);
  addShardsMove(shards, cli);
}
