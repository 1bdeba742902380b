import { median, short } from '../figures.ts';
import { agents, usual } from '../load/shapes.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';
import { watched } from '../watch.ts';

const TEXT = `
CPU time of the broker's process (all threads) for one task from its publish to its completion, in the closed loop of
the measurement \`native\`: 150-byte tasks in batches of 100, file log with fsync. *Agents*: tasks go to one agent after
the other, so with many agents each batch goes to 100 mailboxes; the agents share sessions, up to 1,000 in one. *Backlog*: tasks
that are queued in the 16 mailboxes before the work begins; for each one completed a new one comes behind them.
Contenders take turns; figures are medians of the turns. What the load's own process uses is not in it.
`;

interface Point {
  readonly cpuUs: number;
  readonly perSecond: number;
}

/** Whether a task costs more when there are many agents, or many tasks. */
export async function growth(rig: Rig): Promise<Report> {
  const [turns, span] = rig.quick
    ? [1, { warmMs: 1000, measureMs: 1000 }]
    : [3, { warmMs: 4000, measureMs: 5000 }];
  const counts = rig.quick ? [10, 1000] : [10, 100, 1000, 10_000, 100_000];
  const backlogs = rig.quick ? [0, 100_000] : [0, 10_000, 100_000, 1_000_000];
  const byAgents = new Map<number, Point[]>(counts.map((count) => [count, []]));
  const byBacklog = new Map<number, Point[]>(backlogs.map((count) => [count, []]));
  for (let turn = 1; turn <= turns; turn++) {
    for (const count of counts) {
      rig.tell(`turn ${turn} of ${turns}: ${count} agents`);
      byAgents.get(count)!.push(await point(rig, span, count, 0));
    }
    for (const count of backlogs) {
      rig.tell(`turn ${turn} of ${turns}: backlog of ${count}`);
      byBacklog.get(count)!.push(await point(rig, span, 16, count));
    }
  }
  return {
    text: TEXT,
    targets: [target('agents', byAgents), target('queued tasks', byBacklog)],
    tables: [
      {
        title: 'By agents',
        columns: ['agents', 'CPU, µs a task', '× the first', 'tasks/s'],
        rows: rows(byAgents),
      },
      {
        title: 'By backlog',
        columns: ['queued tasks', 'CPU, µs a task', '× the first', 'tasks/s'],
        rows: rows(byBacklog),
      },
    ],
    charts: [
      {
        title: 'CPU time of one task',
        x: 'agents, or queued tasks',
        y: 'µs',
        logX: true,
        series: [
          { name: 'by agents', points: points(byAgents) },
          { name: 'by backlog', points: points(byBacklog) },
        ],
      },
    ],
    raw: { byAgents: Object.fromEntries(byAgents), byBacklog: Object.fromEntries(byBacklog) },
  };
}

function point(
  rig: Rig,
  span: { warmMs: number; measureMs: number },
  count: number,
  backlog: number,
): Promise<Point> {
  const shape = usual(agents(count), 'task');
  return rig.broker({}, ({ child, port }) =>
    rig.load(async (load) => {
      if (backlog > 0) await load.ask('fillLoad', { ...shape, port, tasks: backlog, first: 1e10 });
      const workers = Math.ceil(count / 1000);
      const { output, cpuUs } = await watched(child, () =>
        load.ask('nativeLoad', { ...shape, ...span, port, outstanding: 128, workers }),
      );
      const { tasks, ms, from, to } = output;
      return { cpuUs: cpuUs(from, to) / tasks, perSecond: (tasks / ms) * 1000 };
    }),
  );
}

function cost(all: readonly Point[]): number {
  return median(all.map(({ cpuUs }) => cpuUs));
}

function rows(by: ReadonlyMap<number, readonly Point[]>): string[][] {
  const first = cost([...by.values()][0]!);
  return [...by].map(([count, all]) => [
    short(count),
    cost(all).toFixed(2),
    (cost(all) / first).toFixed(2),
    short(median(all.map(({ perSecond }) => perSecond))),
  ]);
}

function points(by: ReadonlyMap<number, readonly Point[]>): [number, number][] {
  return [...by].map(([count, all]) => [count, cost(all)]);
}

function target(what: string, by: ReadonlyMap<number, readonly Point[]>): Report['targets'][number] {
  const costs = [...by.values()].map(cost);
  const counts = [...by.keys()];
  const most = Math.max(...costs.map((each) => each / costs[0]!));
  return {
    measure: `CPU time of a task, from ${short(counts[0]!)} to ${short(counts.at(-1)!)} ${what}`,
    reach: 'flat, ±15 %',
    got: `at most ${((most - 1) * 100).toFixed(0)} % more`,
    reached: most <= 1.15,
  };
}
