import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { advice, token as tokenKind } from '../../config/kinds.ts';
import { hashedToken } from '../../edge/tokens.ts';
import { HubError } from '../../std/errors.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';

/** `agenthub auth hash` */
export function addAuthHash(auth: Command, cli: Cli): void {
  const command = auth
    .command('hash')
    .description('Read a token from standard input, and write what a file of tokens needs of it')
    .addHelpText(
      'after',
      examples(['agenthub auth hash < token.txt', 'sha256:…, to put it into a line of auth.tokensFile']),
    )
    .action(async () => {
      const token = tokenKind.parse(await text(cli.terminal.stdin));
      if (token === undefined) {
        throw new HubError('invalid', `that is no token; ${advice(tokenKind)}`, { field: 'token' });
      }
      const hash = hashedToken(token);
      cli.output(command).item({ hash }, { hash });
    });
}
