import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addClusterDescribe } from './cluster-describe.ts';
import { addClusterDrain } from './cluster-drain.ts';

/** `agenthub cluster` */
export function addCluster(program: Command, cli: Cli): void {
  const cluster = program.command('cluster').description('Look at the brokers, and empty one of them');
  addClusterDescribe(cluster, cli);
  addClusterDrain(cluster, cli);
}
