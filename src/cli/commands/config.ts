import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addConfigPath } from './config-path.ts';
import { addConfigShow } from './config-show.ts';

/** `agenthub config` */
export function addConfig(program: Command, cli: Cli): void {
  const config = program.command('config').description('Show what is configured, and where it comes from');
  addConfigShow(config, cli);
  addConfigPath(config, cli);
}
