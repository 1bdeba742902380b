import { resolve } from 'node:path';
import type { Command } from 'commander';
import { FILE_ENV } from '../../config/keys.ts';
import type { Cli } from '../cli.ts';
import { globalFlags } from '../cli.ts';
import { examples } from '../options.ts';

/** `agenthub config path` */
export function addConfigPath(config: Command, cli: Cli): void {
  const command = config
    .command('path')
    .description('Show which configuration file is read')
    .addHelpText('after', examples(['agenthub config path', `--config, else ${FILE_ENV}, else none`]))
    .action(() => {
      const file = globalFlags(command).config ?? cli.terminal.env[FILE_ENV];
      const path = file === undefined || file === '' ? undefined : resolve(file);
      const output = cli.output(command);
      if (output.json) output.document({ path: path ?? null });
      else output.say(path ?? `No file is read; name one with --config or ${FILE_ENV}.`);
    });
}
