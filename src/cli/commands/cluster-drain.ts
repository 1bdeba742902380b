import type { Command } from 'commander';
import { Option } from 'commander';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';

/** `agenthub cluster drain` */
export function addClusterDrain(cluster: Command, cli: Cli): void {
  const command = cluster
    .command('drain')
    .description(
      'Empty the broker that is asked: it accepts nothing new, tells its sessions to go, hands everything over',
    )
    .option('--status', 'only show how far it is')
    .addOption(new Option('--cancel', 'take back a drain that has not ended').conflicts('status'))
    .addHelpText(
      'after',
      examples(
        ['agenthub cluster drain --broker broker-2:50051', 'empty that one'],
        ['agenthub cluster drain --status', 'how far it is'],
        ['agenthub cluster drain --cancel', 'serve again'],
      ),
    )
    .action(async ({ status = false, cancel = false }: { status?: boolean; cancel?: boolean }) => {
      using broker = cli.caller(command);
      const answer = await broker.call(Admin.method.drain, { status, cancel });
      const { draining, finished, shardsLeft, sessionsLeft, leasesLeft } = answer;
      const state = finished ? 'drained' : draining ? 'draining' : 'serving';
      const left = { shardsLeft, sessionsLeft, leasesLeft };
      cli
        .output(command)
        .item(
          { state, draining, finished, ...left },
          { state, 'shards left': shardsLeft, 'sessions left': sessionsLeft, 'leases left': leasesLeft },
        );
    });
}
