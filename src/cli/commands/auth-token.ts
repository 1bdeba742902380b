import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { hashedToken } from '../../edge/tokens.ts';
import { HubError } from '../../std/errors.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';

const TOKEN_BYTES = 32;

/** `agenthub auth token` */
export function addAuthToken(auth: Command, cli: Cli): void {
  const command = auth
    .command('token')
    .description(
      'Make a token for an agent, and the line for the file that auth.tokensFile names, which has its hash',
    )
    .argument('<name>', 'what rules and logs call who shows it: token:<name>')
    .argument('[groups...]', 'groups that rules may name instead')
    .addHelpText('after', examples(['agenthub auth token planner planners', 'a token for the planner']))
    .action((name: string, groups: readonly string[]) => {
      for (const word of [name, ...groups]) {
        if (/^[^\s\p{Cc}]+$/u.test(word)) continue;
        throw new HubError('invalid', 'names and groups must not be empty, and have no spaces', {
          field: 'name',
        });
      }
      const token = randomBytes(TOKEN_BYTES).toString('base64url');
      const line = [hashedToken(token), name, ...groups].join(' ');
      cli.output(command).item({ token, line }, { 'for the agent': token, 'for auth.tokensFile': line });
    });
}
