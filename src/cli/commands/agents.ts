import type { Command } from 'commander';
import type { AgentView } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { span, time } from '../format.ts';
import { examples, whole } from '../options.ts';
import { figures } from '../output.ts';
import { paged, take } from '../paged.ts';

/** `agenthub agents` */
export function addAgents(program: Command, cli: Cli): void {
  const command = program
    .command('agents')
    .description('List the agents that are attached, and what they do')
    .argument('[prefix]', 'only those whose id starts so')
    .option('--limit <number>', 'at most so many', whole(1), 100)
    .addHelpText(
      'after',
      examples(
        ['agenthub agents', 'the first 100'],
        ['agenthub agents plan -o json', 'planner and the like, for a program'],
      ),
    )
    .action(async (prefix: string | undefined, { limit }: { limit: number }) => {
      using broker = cli.caller(command);
      const all = paged(async (pageToken) => {
        const { agents, nextPageToken } = await broker.call(Admin.method.listAgents, {
          prefix: prefix ?? '',
          pageSize: Math.min(limit, 1000),
          pageToken,
        });
        return { items: agents, nextPageToken };
      });
      const agents = (await take(all, limit)).map(viewOf);
      const now = cli.clock.now();
      cli
        .output(command)
        .list(
          agents,
          [
            { head: 'AGENT', value: ({ agent }) => agent },
            { head: 'MAILBOX', value: ({ mailbox }) => mailbox },
            { head: 'AS', value: ({ listener }) => (listener ? 'listener' : 'worker') },
            figures('RUNNING', ({ inFlight }) => inFlight),
            figures('WINDOW', ({ window }) => (window === 0 ? 'adaptive' : window)),
            { head: 'TYPES', value: ({ types }) => types.join(',') || 'all' },
            { head: 'SESSION', value: ({ session }) => session },
            { head: 'CLIENT', value: ({ client }) => client },
            { head: 'PEER', value: ({ peer, connected }) => (connected ? peer : 'gone, may come back') },
            figures('FOR', ({ attachedAt }) => span(now - Date.parse(attachedAt))),
          ],
          'No agents are attached.',
        );
    });
}

function viewOf(view: AgentView) {
  const { agent, mailbox, listener, window, inFlight, types, sessionId, client, peer, connected } = view;
  const attachedAt = time(Number(view.attachedAtMs));
  return {
    agent,
    mailbox,
    listener,
    window,
    inFlight,
    types,
    session: sessionId,
    client,
    peer,
    connected,
    attachedAt,
  };
}
