import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addPlacementCheck } from './placement-check.ts';
import { addPlacementGet } from './placement-get.ts';
import { addPlacementSet } from './placement-set.ts';

/** `agenthub placement` */
export function addPlacement(program: Command, cli: Cli): void {
  const placement = program
    .command('placement')
    .description('See and change which mailboxes live in which pool of brokers');
  addPlacementGet(placement, cli);
  addPlacementSet(placement, cli);
  addPlacementCheck(placement, cli);
}
