import { median, short } from '../figures.ts';
import { agents, usual } from '../load/shapes.ts';
import type { Delays } from '../load/open.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';

const PARTS = [0.1, 0.25, 0.5, 0.75];

const TEXT = `
First the most tasks a second that go through (closed loop, as in the measurement \`native\`), then parts of that rate
in an open loop: batches of 100 are published at their times whether or not the broker keeps up, and a delay counts
from the time at which the task was due, not from that at which it could be sent, so that no stall hides
(coordinated omission). File log with fsync, 16 mailboxes. Medians of the turns.
`;

/** How long tasks take under load. */
export async function rate(rig: Rig): Promise<Report> {
  const [turns, warmMs, measureMs] = rig.quick ? [1, 500, 1500] : [3, 3000, 8000];
  const shape = usual(agents(16));
  const saturated: number[] = [];
  const delays = new Map<number, Delays[]>(PARTS.map((part) => [part, []]));
  for (let turn = 1; turn <= turns; turn++) {
    await rig.broker({}, ({ port }) =>
      rig.load(async (load) => {
        rig.tell(`turn ${turn} of ${turns}: saturated`);
        const done = await load.ask('nativeLoad', { ...shape, port, outstanding: 128, warmMs, measureMs });
        const most = (done.tasks / done.ms) * 1000;
        saturated.push(most);
        for (const [index, part] of PARTS.entries()) {
          rig.tell(`turn ${turn} of ${turns}: ${part * 100} % of ${short(most)} tasks/s`);
          const first = (index + 1) * 1e9;
          const tasksPerSecond = most * part;
          const { delivered } = await load.ask('openLoad', {
            ...shape,
            port,
            tasksPerSecond,
            warmMs,
            measureMs,
            first,
          });
          delays.get(part)!.push(delivered);
        }
      }),
    );
  }
  const most = median(saturated);
  const of = (part: number, key: keyof Delays): number => median(delays.get(part)!.map((turn) => turn[key]));
  const half = of(0.5, 'p99');
  return {
    text: TEXT,
    targets: [
      {
        measure: 'p99 of publish → delivered at half the saturated rate',
        reach: '≤ 5 ms',
        got: `${half.toFixed(2)} ms at ${short(most / 2)} tasks/s`,
        reached: half <= 5,
      },
    ],
    tables: [
      {
        title: `Milliseconds from due to delivered; saturated at ${short(most)} tasks/s`,
        columns: ['rate', 'tasks/s', 'p50', 'p90', 'p99', 'p99.9', 'longest'],
        rows: PARTS.map((part) => [
          `${part * 100} %`,
          short(most * part),
          ...(['p50', 'p90', 'p99', 'p999', 'most'] as const).map((key) => of(part, key).toFixed(2)),
        ]),
      },
    ],
    charts: [
      {
        title: 'Delay by load',
        x: '% of the saturated rate',
        y: 'ms',
        series: (['p50', 'p90', 'p99'] as const).map((name) => ({
          name,
          points: PARTS.map((part): [number, number] => [part * 100, of(part, name)]),
        })),
      },
    ],
    raw: { saturated, delays: Object.fromEntries(delays) },
  };
}
