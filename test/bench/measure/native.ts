import { median, short, spread } from '../figures.ts';
import { deliveryFrame } from '../load/bytes.ts';
import type { BatchLoad } from '../load/batches.ts';
import type { Done } from '../load/meter.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';
import type { Watched } from '../watch.ts';
import { watched } from '../watch.ts';

const TASK_BYTES = 150;
const BATCH = 100;
const OUTSTANDING = 128;
const MAILBOXES = Array.from({ length: 16 }, (_, index) => `planner-${index}`);

/** One run of one contender. */
interface Run {
  readonly perSecond: number;
  readonly peerCpuUs: number;
  readonly loadCpuUs: number;
}

type Contender = (rig: Rig, span: { warmMs: number; measureMs: number }) => Promise<Run>;

const CONTENDERS: Readonly<Record<string, Contender>> = {
  'broker, file log with fsync': broker({ 'data-sync': 'always' }, 'nativeLoad', {}),
  'bare grpc-js': bare,
  'broker, memory log': broker({ 'data-log': 'memory' }, 'nativeLoad', {}),
  'broker, file log, one mailbox': broker({ 'data-sync': 'always' }, 'nativeLoad', {
    mailboxes: ['planner'],
  }),
  'broker, file log, with results': broker({ 'data-sync': 'always' }, 'nativeLoad', { results: true }),
  'broker, file log, through the SDK': broker({ 'data-sync': 'always' }, 'sdkLoad', {}),
};

const TEXT = `
One session publishes batches of ${BATCH} tasks of ${TASK_BYTES} bytes each (the whole serialized task), another
one works: it completes whatever it gets. A task counts when its completion is acknowledged, which is after the
task, its lease and its end are in the log, and, with the file log, flushed to the device. At most
${OUTSTANDING} batches are on their way; each goes to one of ${MAILBOXES.length} mailboxes in turn. Broker and
load are one process each. The load is made at the level of frames, whose bytes are prepared; the last row shows
the same through the SDK (\`publishBatch\`, \`workBatch\`), which makes ids, encodes and checks every task.

**Bare grpc-js** is the same process of load, against a peer that has one bidirectional method, with bytes as
messages. Publisher to peer: the same ${BATCH}-task publish frames. Peer to worker, one for each: a prepared frame
of as many bytes as ${BATCH} deliveries have. Worker to peer: a frame of as many bytes as ${BATCH} settlements
have. An acknowledgement of a few bytes follows each frame that the peer gets. Neither side reads a byte of them,
and nothing is stored. Both have the same HTTP/2 windows, wider than the defaults.

Contenders take turns, each time in new processes; figures are medians of the turns.
`;

/** How many tasks a second go all the way, beside the bytes alone. */
export async function native(rig: Rig): Promise<Report> {
  const span = rig.quick ? { warmMs: 500, measureMs: 1000 } : { warmMs: 2500, measureMs: 5000 };
  const turns = rig.quick ? 1 : 5;
  const runs = new Map<string, Run[]>();
  for (let turn = 1; turn <= turns; turn++) {
    for (const [name, contender] of Object.entries(CONTENDERS)) {
      rig.tell(`turn ${turn} of ${turns}: ${name}`);
      runs.set(name, [...(runs.get(name) ?? []), await contender(rig, span)]);
    }
  }
  const of = (name: string): Run[] => runs.get(name) ?? [];
  const bareSpeed = median(of('bare grpc-js').map(({ perSecond }) => perSecond));
  const fileRuns = of('broker, file log with fsync');
  const file = median(fileRuns.map(({ perSecond }) => perSecond));
  const ratio = median(
    fileRuns.map(({ perSecond }, turn) => perSecond / of('bare grpc-js')[turn]!.perSecond),
  );
  return {
    text: TEXT,
    targets: [
      {
        measure: 'native session, batches of 100, 150-byte tasks, durable with fsync, to the completion',
        reach: '≥ 250,000 tasks/s, or ≥ 0.6 × bare',
        got: `${short(file)} tasks/s, ${ratio.toFixed(2)} × bare`,
        reached: file >= 250_000 || ratio >= 0.6,
      },
    ],
    tables: [
      {
        title: 'Tasks a second',
        columns: [
          '',
          'tasks/s',
          'lowest – highest',
          '× bare',
          'CPU of the peer, µs a task',
          'CPU of the load, µs a task',
        ],
        rows: [...runs].map(([name, all]) => {
          const speeds = all.map(({ perSecond }) => perSecond);
          return [
            name,
            short(median(speeds)),
            spread(speeds),
            (median(speeds) / bareSpeed).toFixed(2),
            short(median(all.map(({ peerCpuUs }) => peerCpuUs))),
            short(median(all.map(({ loadCpuUs }) => loadCpuUs))),
          ];
        }),
      },
    ],
    charts: [
      {
        title: 'Tasks a second, by turn',
        x: 'turn',
        y: 'tasks/s',
        series: [...runs].map(([name, all]) => ({
          name,
          points: all.map(({ perSecond }, turn): [number, number] => [turn + 1, perSecond]),
        })),
      },
    ],
    raw: Object.fromEntries(runs),
  };
}

function broker(
  flags: Readonly<Record<string, string>>,
  kind: 'nativeLoad' | 'sdkLoad',
  changes: Partial<BatchLoad>,
): Contender {
  return (rig, span) =>
    rig.broker(flags, ({ child, port }) =>
      rig.load((load) => measured(child, () => load.ask(kind, { ...loadOf(port, span), ...changes }))),
    );
}

function bare(rig: Rig, span: { warmMs: number; measureMs: number }): Promise<Run> {
  return rig.bare((peer) =>
    rig.load(async (load) => {
      const shape = { tasks: BATCH, taskBytes: TASK_BYTES, mailboxes: MAILBOXES.slice(0, 1), requester: '' };
      const port = await peer.ask('start', { delivery: deliveryFrame(shape), ack: Buffer.alloc(8) });
      return measured(peer, () => load.ask('bareLoad', loadOf(port, span)));
    }),
  );
}

async function measured(peer: Watched, run: () => Promise<Done>): Promise<Run> {
  const { output, cpuUs } = await watched(peer, run);
  const { tasks, ms, loadCpuUs, from, to } = output;
  return {
    perSecond: (tasks / ms) * 1000,
    peerCpuUs: cpuUs(from, to) / tasks,
    loadCpuUs: loadCpuUs / tasks,
  };
}

function loadOf(port: number, span: { warmMs: number; measureMs: number }): BatchLoad {
  return {
    ...span,
    port,
    batch: BATCH,
    taskBytes: TASK_BYTES,
    outstanding: OUTSTANDING,
    mailboxes: MAILBOXES,
    spread: 'batch',
    results: false,
  };
}
