import type { Command } from 'commander';
import { Option } from 'commander';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { aDuration, examples } from '../options.ts';

interface Flags {
  readonly status?: boolean;
  readonly cancel?: boolean;
  readonly wait?: number;
}

/** How often it is asked whether the drain has ended, in milliseconds. */
const ASK_MS = 250;

/** `agenthub cluster drain` */
export function addClusterDrain(cluster: Command, cli: Cli): void {
  const command = cluster
    .command('drain')
    .description(
      'Empty the broker that is asked: it accepts nothing new, tells its sessions to go, hands everything over',
    )
    .option('--status', 'only show how far it is')
    .addOption(new Option('--cancel', 'take back a drain that has not ended').conflicts('status'))
    .addOption(
      new Option('--wait <duration>', 'come back when it is empty, or after this time')
        .argParser(aDuration)
        .conflicts(['status', 'cancel']),
    )
    .addHelpText(
      'after',
      examples(
        ['agenthub cluster drain --broker broker-2:50051', 'empty that one'],
        ['agenthub cluster drain --wait 1m', 'empty this one, and come back when that is done'],
        ['agenthub cluster drain --status', 'how far it is'],
        ['agenthub cluster drain --cancel', 'serve again'],
      ),
    )
    .action(async ({ status = false, cancel = false, wait: waitMs = 0 }: Flags) => {
      using broker = cli.caller(command);
      let answer = await broker.call(Admin.method.drain, { status, cancel });
      for (const until = cli.clock.now() + waitMs; !answer.finished && cli.clock.now() < until;) {
        await new Promise<void>((resolve) => cli.clock.after(ASK_MS, resolve));
        answer = await broker.call(Admin.method.drain, { status: true });
      }
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
