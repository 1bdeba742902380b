import type { Child } from '../child.ts';
import type { BrokerCalls } from '../broker/main.ts';
import { agents, usual } from '../load/shapes.ts';
import { short } from '../figures.ts';
import type { Report, Target } from '../report.ts';
import type { Rig } from '../rig.ts';
import type { Usage } from '../usage.ts';

const TEXT = `
How much larger the broker's process has become by many of a kind, divided by their number, after garbage was
collected. Objects and buffers are what V8 and Node count as live; RSS, what the system counts, has also what is
reserved for later, and is coarser. The log is the file log.

- **Idle attached agent**: agents attached to mailboxes of their own, in 10 sessions, nothing queued.
- **Queued task**: tasks of 150 bytes in 16 mailboxes that nobody works on. The log's record of the task is kept in
  memory: what it has beside the 150 bytes counts as index.
- **Idle mailbox**: as many tasks, each in a mailbox of its own, beside the same tasks in 16 mailboxes: the
  difference.
`;

/** What many of a kind cost in memory. */
export async function memory(rig: Rig): Promise<Report> {
  const many = rig.quick ? 20_000 : 100_000;
  const tasks = rig.quick ? 100_000 : 1_000_000;
  rig.tell(`${many} agents`);
  const agent = await grown(rig, many, (load, port) =>
    load('attachLoad', { port, sessions: 10, mailboxes: agents(many), window: 0 }),
  );
  rig.tell(`${tasks} tasks in 16 mailboxes`);
  const task = await grown(rig, tasks, (load, port) =>
    load('fillLoad', { ...usual(agents(16)), port, tasks, first: 0 }),
  );
  rig.tell(`${many} tasks in as many mailboxes`);
  const apart = await grown(rig, many, (load, port) =>
    load('fillLoad', { ...usual(agents(many), 'task'), port, tasks: many, first: 0 }),
  );
  rig.tell(`${many} tasks in 16 mailboxes`);
  const together = await grown(rig, many, (load, port) =>
    load('fillLoad', { ...usual(agents(16), 'task'), port, tasks: many, first: 0 }),
  );
  const mailbox = { live: apart.live - together.live, rss: apart.rss - together.rss };
  const index = task.live - 150;
  return {
    text: TEXT,
    targets: [
      target('idle mailbox', mailbox.live, 1024),
      target('queued task, index beside the payload', index, 200),
      target('idle attached agent in a shared session', agent.live, 1024),
    ],
    tables: [
      {
        title: 'Bytes each',
        columns: ['', 'number', 'objects and buffers', 'RSS'],
        rows: [
          ['idle mailbox', short(many), short(mailbox.live), short(mailbox.rss)],
          ['queued task of 150 bytes, all in all', short(tasks), short(task.live), short(task.rss)],
          ['queued task, index', short(tasks), short(index), short(task.rss - 150)],
          ['idle attached agent', short(many), short(agent.live), short(agent.rss)],
        ],
      },
    ],
    charts: [],
    raw: { many, tasks, agent, task, apart, together },
  };
}

type Ask = Parameters<Parameters<Rig['load']>[0]>[0]['ask'];

/** By how many bytes each of `count` has made a fresh broker larger. */
function grown(
  rig: Rig,
  count: number,
  add: (ask: Ask, port: number) => Promise<void>,
): Promise<{ live: number; rss: number }> {
  return rig.broker({}, ({ child, port }) =>
    rig.load(async (load) => {
      await load.ask('attachLoad', { port, sessions: 10, mailboxes: agents(200, 'warm'), window: 0 });
      const before = await settled(child);
      await add(load.ask.bind(load), port);
      const after = await settled(child);
      const live = after.heapBytes + after.bufferBytes - before.heapBytes - before.bufferBytes;
      return { live: live / count, rss: (after.rssBytes - before.rssBytes) / count };
    }),
  );
}

/** The usage after what is still going on has ended. */
async function settled(child: Child<BrokerCalls>): Promise<Usage> {
  await new Promise((resolve) => setTimeout(resolve, 1500));
  return child.ask('usage', { collect: true });
}

function target(measure: string, got: number, most: number): Target {
  return { measure, reach: `≤ ${short(most)} B`, got: `${short(got)} B`, reached: got <= most };
}
