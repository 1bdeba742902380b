import type { Command } from 'commander';
import type { PlacementRule } from '../../core/placement.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';
import { figures } from '../output.ts';
import { placementView } from '../placement.ts';

/** `agenthub placement get` */
export function addPlacementGet(placement: Command, cli: Cli): void {
  const command = placement
    .command('get')
    .description('Show the pools and the placement rules; the first rule that matches a mailbox counts')
    .addHelpText(
      'after',
      examples(
        ['agenthub placement get', 'pools and rules'],
        ['agenthub placement get -o json > rules.json', 'to be edited, for `agenthub placement set`'],
      ),
    )
    .action(async () => {
      using broker = cli.caller(command);
      const view = placementView((await broker.call(Admin.method.getPlacement, {})).placement!);
      const output = cli.output(command);
      if (output.json) return output.document(view);
      const { pools, rules, defaultPool, version } = view;
      output.list(
        pools,
        [
          { head: 'POOL', value: ({ name }) => name },
          figures('BROKERS', ({ brokers }) => brokers),
          figures('SHARDS', ({ shards }) => shards),
          figures('FIRST SHARD', ({ firstShard }) => firstShard),
        ],
        'No pools.',
      );
      output.say('');
      const all = [
        ...rules.map((rule, at) => ({ at: `${at + 1}`, ...described(rule), pool: rule.pool })),
        { at: '', what: 'everything else', spread: '', pool: defaultPool },
      ];
      output.list(
        all,
        [
          { head: 'RULE', value: ({ at }) => at, right: true },
          { head: 'MAILBOXES', value: ({ what }) => what },
          { head: 'SPREAD', value: ({ spread }) => spread, right: true },
          { head: 'POOL', value: ({ pool }) => pool },
        ],
        '',
      );
      output.say(`\nVersion ${version}.`);
    });
}

function described(rule: PlacementRule): { what: string; spread: string } {
  if ('agents' in rule) return { what: `agents ${rule.agents}`, spread: '' };
  if ('region' in rule) return { what: `agents *@${rule.region}`, spread: '' };
  if ('taskTypes' in rule) return { what: `type:${rule.taskTypes}`, spread: `${rule.spread ?? 1}` };
  const { prefix, first, last } = rule.range;
  return { what: `agents ${prefix}${first} to ${prefix}${last}`, spread: '' };
}
