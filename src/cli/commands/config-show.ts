import type { Command } from 'commander';
import { configRows } from '../../config/load.ts';
import type { Cli } from '../cli.ts';
import { addConfigFlags, examples } from '../options.ts';

/** `agenthub config show` */
export function addConfigShow(config: Command, cli: Cli): void {
  const command = config
    .command('show')
    .description(
      'Show every key with its value and where that comes from; secrets are hidden. It takes the flags of serve',
    )
    .option('--set', 'only those that are not at their defaults')
    .addHelpText(
      'after',
      examples(
        ['agenthub config show', 'what agenthub serve would take'],
        ['agenthub config show --set -o json', 'what somebody has set, for a program'],
        ['agenthub config show --port 6000', 'what it would be with that flag'],
      ),
    )
    .action(({ set = false, ...flags }: { set?: boolean } & Record<string, unknown>) => {
      const rows = configRows(cli.load(command, flags)).filter(({ source }) => !set || source !== 'default');
      cli.output(command).list(
        rows,
        [
          { head: 'KEY', value: ({ key }) => key },
          { head: 'VALUE', value: ({ value }) => value },
          { head: 'FROM', value: ({ source }) => source },
        ],
        'Everything is at its default.',
      );
    });
  addConfigFlags(command, true);
}
