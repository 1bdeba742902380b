import type { Command } from 'commander';
import { Argument, Option } from 'commander';
import { readText } from '../../config/read-text.ts';
import { readPolicy } from '../../edge/policy-file.ts';
import { DEFAULT_NAMESPACE } from '../../core/namespace.ts';
import { checkMailbox } from '../../core/shard.ts';
import { HubError } from '../../std/errors.ts';
import type { Grant } from '../../trust/policy.ts';
import { GRANTS } from '../../trust/policy.ts';
import type { Principal, Source } from '../../trust/principal.ts';
import type { Act } from '../../trust/rights.ts';
import { Rights } from '../../trust/rights.ts';
import type { Cli } from '../cli.ts';
import { BadOutcome } from '../failure.ts';
import { examples, several } from '../options.ts';

interface Flags {
  readonly as: string;
  readonly group: readonly string[];
  readonly policy?: string;
  readonly type: string;
  readonly requester: string;
}

const SOURCES: readonly Source[] = ['token', 'jwt', 'serviceaccount', 'cert', 'loopback', 'anonymous'];

/** `agenthub auth check` */
export function addAuthCheck(auth: Command, cli: Cli): void {
  const command = auth
    .command('check')
    .description('Tell whether a policy allows something, and which rule decides. It asks no broker')
    .addArgument(new Argument('<act>', 'what somebody wants to do').choices(GRANTS))
    .argument('<object>', 'an agent to be; a mailbox to publish to, work on, read or manage; an admin verb')
    .requiredOption('--as <principal>', 'who, such as token:planner or jwt:alice@example.org')
    .addOption(
      new Option('--group <name>', 'a group of theirs; more than once for more')
        .argParser(several)
        .default([]),
    )
    .option('--policy <file>', 'the policy (default: the one that auth.policyFile names)')
    .option('--type <type>', 'type of the task that is published', '')
    .option('--requester <agent>', 'agent that the task is published for', '')
    .addHelpText(
      'after',
      examples(
        ['agenthub auth check --as token:planner publish worker-1', 'may it, and by which rule'],
        ['agenthub auth check --policy new.yaml --as loopback admin drain', 'what a file would allow'],
      ),
    )
    .action((does: Grant, to: string, flags: Flags) => {
      const path = flags.policy ?? cli.load(command).config.auth.policyFile;
      const policy = path === undefined ? undefined : readPolicy(readText(path, `the policy ${path}`), path);
      if (does !== 'admin') checkMailbox(to, 'object');
      const act: Act =
        does === 'publish' ? { does, to, type: flags.type, requester: flags.requester } : { does, to };
      const { allowed, rule, why } = Rights.of(principalOf(flags), policy).judge(act);
      const verdict = { allowed, rule, why };
      cli.output(command).item(verdict, { allowed: allowed ? 'yes' : 'no', why });
      if (!allowed) throw new BadOutcome('');
    });
}

function principalOf({ as: name, group: groups }: Flags): Principal {
  const source = SOURCES.find((one) => name === one || name.startsWith(`${one}:`));
  if (source !== undefined)
    return { name, source, namespace: DEFAULT_NAMESPACE, groups, role: 'agent', expiresAt: Infinity };
  throw new HubError('invalid', `--as must begin with one of ${SOURCES.join(', ')}, as in token:planner`, {
    field: '--as',
  });
}
