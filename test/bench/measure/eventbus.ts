import { median, short, spread } from '../figures.ts';
import type { BusDone } from '../load/bus.ts';
import type { Done } from '../load/meter.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';
import { watched } from '../watch.ts';

const CONCURRENCY = 256;
const CONNECTIONS = 4;

const TEXT = `
Unary \`eventbus.EventBus/PublishTask\` with ${CONCURRENCY} calls in progress on ${CONNECTIONS} connections: a call is
answered when its task is in the file log and flushed to the device. A subscriber (\`SubscribeToTasks\`), in the same
process as the callers, gets the tasks; after the run it is counted whether one that was accepted has not come.
**Bare grpc-js**: the same calls with the same bytes to a server whose handler answers at once with 8 bytes and reads
nothing; without the subscriber. Contenders take turns, each time in new processes; figures are medians of the turns.
`;

interface Run {
  readonly perSecond: number;
  readonly peerCpuUs: number;
  readonly loadCpuUs: number;
}

/** How many calls of the event bus a second, beside calls that do nothing. */
export async function eventbus(rig: Rig): Promise<Report> {
  const [turns, span] = rig.quick
    ? [1, { warmMs: 1000, measureMs: 2000 }]
    : [5, { warmMs: 4000, measureMs: 6000 }];
  const load = { ...span, concurrency: CONCURRENCY, connections: CONNECTIONS };
  const broker: Run[] = [];
  const bare: Run[] = [];
  const counts: Pick<BusDone, 'accepted' | 'delivered' | 'lost'>[] = [];
  for (let turn = 1; turn <= turns; turn++) {
    rig.tell(`turn ${turn} of ${turns}: broker`);
    await rig.broker({}, ({ child, port }) =>
      rig.load(async (maker) => {
        const { output, cpuUs } = await watched(child, () => maker.ask('busLoad', { ...load, port }));
        const { accepted, delivered, lost } = output;
        counts.push({ accepted, delivered, lost });
        broker.push(runOf(output, cpuUs));
      }),
    );
    rig.tell(`turn ${turn} of ${turns}: bare grpc-js`);
    await rig.bare((peer) =>
      rig.load(async (maker) => {
        const port = await peer.ask('start', { delivery: Buffer.alloc(8), ack: Buffer.alloc(8) });
        const { output, cpuUs } = await watched(peer, () => maker.ask('bareCallLoad', { ...load, port }));
        bare.push(runOf(output, cpuUs));
      }),
    );
  }
  const ratio = median(broker.map(({ perSecond }, turn) => perSecond / bare[turn]!.perSecond));
  const sum = (key: keyof (typeof counts)[number]): number =>
    counts.reduce((all, each) => all + each[key], 0);
  return {
    text: TEXT,
    targets: [
      {
        measure: 'eventbus unary PublishTask, durable, delivered to a subscriber',
        reach: '≥ 0.8 × no-op grpc-js, none lost',
        got: `${ratio.toFixed(2)} × (${short(median(broker.map(({ perSecond }) => perSecond)))}/s), ${sum('lost')} lost of ${short(sum('accepted'))}`,
        reached: ratio >= 0.8 && sum('lost') === 0,
      },
    ],
    tables: [
      {
        title: 'Calls a second',
        columns: [
          '',
          'calls/s',
          'lowest – highest',
          'CPU of the peer, µs a call',
          'CPU of the load, µs a call',
        ],
        rows: [row('broker', broker), row('bare grpc-js', bare)],
      },
    ],
    charts: [],
    raw: { broker, bare, counts },
  };
}

function runOf({ tasks, ms, loadCpuUs, from, to }: Done, cpuUs: (from: number, to: number) => number): Run {
  return { perSecond: (tasks / ms) * 1000, peerCpuUs: cpuUs(from, to) / tasks, loadCpuUs: loadCpuUs / tasks };
}

function row(name: string, runs: readonly Run[]): string[] {
  const speeds = runs.map(({ perSecond }) => perSecond);
  return [
    name,
    short(median(speeds)),
    spread(speeds),
    short(median(runs.map(({ peerCpuUs }) => peerCpuUs))),
    short(median(runs.map(({ loadCpuUs }) => loadCpuUs))),
  ];
}
