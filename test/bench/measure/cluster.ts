import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, NatsServer } from '../../support/nats-server.ts';
import { median, short } from '../figures.ts';
import type { Done } from '../load/meter.ts';
import type { Report } from '../report.ts';
import type { Rig, RunningBroker } from '../rig.ts';

const TASK_BYTES = 150;
const BATCH = 100;
const OUTSTANDING = 128;
const CANDIDATES = Array.from({ length: 64 }, (_, index) => `planner-${index}`);
const MAILBOXES = 16;
/** Linux counts the time of processes in hundredths of a second. */
const TICK_US = 10_000;

/** Brokers that share all mailboxes. */
const SPREAD = [1, 2, 4, 8];

/** What brokers cost that do nothing: in a second, all of them together. */
interface Rest {
  /** Messages that NATS got, and gave. */
  readonly received: number;
  readonly sent: number;
  /** CPU time in milliseconds. */
  readonly brokersMs: number;
  readonly natsMs: number;
  /** Memory of one of them. */
  readonly rssBytes: number;
}

/** One run: CPU time in microseconds a task, by who used it. */
interface Run {
  readonly perSecond: number;
  readonly brokersUs: number;
  readonly natsUs: number;
  readonly loadUs: number;
  /** Messages that NATS got, per task. */
  readonly messages: number;
  readonly rest?: Rest;
}

type Span = { readonly warmMs: number; readonly measureMs: number };

const TEXT = `
The load of [native sessions](native.md), batches of ${BATCH} tasks of ${TASK_BYTES} bytes to the acknowledged completion,
through brokers whose log is in NATS JetStream (one server, file storage, \`sync_interval: 1s\`). Everything shares the
processors of this machine, so the CPU time of a task says more than the rate.

- **one broker**: publisher, worker and owner at the same one.
- **three brokers**: all mailboxes are owned by the first, the publisher is connected to the second, the worker to the
  third: every task crosses NATS twice.
- **spread over n brokers**: each owns as many of the mailboxes; the publisher is connected to the first, the worker to the
  second. With one, nothing crosses NATS but the log; with more, most does, and the more brokers, the smaller the records.
- **work queue**: no broker, but a work queue of JetStream with one message per task, published with its acknowledgement and
  acknowledged one by one (\`nats\` for Node): what one would use instead.
`;

/** What a cluster costs, beside one broker and beside NATS alone. */
export async function cluster(rig: Rig): Promise<Report> {
  const span = rig.quick ? { warmMs: 500, measureMs: 1000 } : { warmMs: 2500, measureMs: 5000 };
  const turns = rig.quick ? 1 : 3;
  const contenders: Readonly<Record<string, () => Promise<Run>>> = {
    'one broker, one NATS': () => brokers(rig, span, 1, false),
    'three brokers, one NATS': () => brokers(rig, span, 3, false),
    'work queue of JetStream': () => queue(rig, span),
    ...Object.fromEntries(SPREAD.map((count) => [spreadName(count), () => brokers(rig, span, count, true)])),
  };
  const runs = new Map<string, Run[]>();
  for (let turn = 1; turn <= turns; turn++) {
    for (const [name, run] of Object.entries(contenders)) {
      if (!name.includes(rig.match)) continue;
      rig.tell(`turn ${turn} of ${turns}: ${name}`);
      runs.set(name, [...(runs.get(name) ?? []), await run()]);
    }
  }
  const of = (name: string, figure: Exclude<keyof Run, 'rest'>): number =>
    median((runs.get(name) ?? []).map((run) => run[figure]));
  const all = (name: string): number => of(name, 'brokersUs') + of(name, 'natsUs') + of(name, 'loadUs');
  const [one, three, alone] = Object.keys(contenders) as [string, string, string];
  const speed = of(one, 'perSecond') / of(alone, 'perSecond');
  const cost = all(three) / all(one);
  return {
    text: TEXT,
    targets: [
      {
        measure: 'one broker on NATS, durable, to the completion',
        reach: '≥ 250,000 tasks/s, and ≥ 10 × a work queue of JetStream',
        got: `${short(of(one, 'perSecond'))} tasks/s, ${speed.toFixed(1)} ×`,
        reached: of(one, 'perSecond') >= 250_000 && speed >= 10,
      },
      {
        measure: 'CPU of a task through three brokers, requester and worker not at its owner',
        reach: '≤ 1.6 × one broker',
        got: `${cost.toFixed(2)} ×`,
        reached: cost <= 1.6,
      },
      {
        measure: 'messages on NATS per task',
        reach: '≤ 0.05',
        got: `${short(of(one, 'messages'))}; three brokers: ${short(of(three, 'messages'))}`,
        reached: Math.max(of(one, 'messages'), of(three, 'messages')) <= 0.05,
      },
    ],
    tables: [
      {
        title: 'Throughput and cost',
        columns: [
          '',
          'tasks/s',
          'brokers, µs a task',
          'NATS, µs a task',
          'load, µs a task',
          'NATS messages a task',
        ],
        rows: [...runs.keys()].map((name) => [
          name,
          ...(['perSecond', 'brokersUs', 'natsUs', 'loadUs', 'messages'] as const).map((figure) =>
            short(of(name, figure)),
          ),
        ]),
      },
      {
        title: 'At rest: what it costs that brokers are there, all together, in a second',
        columns: [
          'brokers',
          'messages to NATS',
          'messages from NATS',
          'CPU brokers, ms',
          'CPU NATS, ms',
          'memory of one, MiB',
        ],
        rows: SPREAD.map((count) => {
          const rest = restOf(runs.get(spreadName(count)) ?? []);
          return [
            `${count}`,
            ...(['received', 'sent', 'brokersMs', 'natsMs'] as const).map((figure) =>
              short(rest?.[figure] ?? NaN),
            ),
            short((rest?.rssBytes ?? NaN) / 2 ** 20),
          ];
        }),
      },
    ],
    charts: [
      {
        title: 'CPU of a task by number of brokers',
        x: 'brokers',
        y: 'µs',
        series: (['brokersUs', 'natsUs'] as const).map((figure) => ({
          name: figure === 'brokersUs' ? 'brokers' : 'NATS',
          points: SPREAD.map((count) => [count, of(spreadName(count), figure)] as const),
        })),
      },
    ],
    raw: {
      ...Object.fromEntries(runs),
      spread: SPREAD.map((count) => ({
        brokers: count,
        brokersUs: of(spreadName(count), 'brokersUs'),
        natsUs: of(spreadName(count), 'natsUs'),
        messages: of(spreadName(count), 'messages'),
        perSecond: of(spreadName(count), 'perSecond'),
        rest: restOf(runs.get(spreadName(count)) ?? []),
      })),
    },
  };
}

function spreadName(count: number): string {
  return count === 1 ? 'spread over 1 broker' : `spread over ${count} brokers`;
}

function restOf(runs: readonly Run[]): Rest | undefined {
  const all = runs.flatMap(({ rest }) => rest ?? []);
  if (all.length === 0) return undefined;
  const middle = (figure: keyof Rest): number => median(all.map((rest) => rest[figure]));
  return {
    received: middle('received'),
    sent: middle('sent'),
    brokersMs: middle('brokersMs'),
    natsMs: middle('natsMs'),
    rssBytes: middle('rssBytes'),
  };
}

async function brokers(rig: Rig, span: Span, count: number, spread: boolean): Promise<Run> {
  return withNats(async (nats, monitor) => {
    const flags = {
      'data-log': 'jetstream',
      'nats-servers': nats.url,
      'cluster-sessions': 'stay',
      'cluster-dead-after-ms': '20s',
    };
    return rig.brokers(flags, count, async (all) => {
      while (!(await settled(all))) await sleep(100);
      const owners = spread ? all : all.slice(0, 1);
      const owned = await Promise.all(owners.map(({ child }) => child.ask('owned', CANDIDATES)));
      const mailboxes = owned.flatMap((own) => own.slice(0, MAILBOXES / owners.length));
      const rest = spread ? await resting(nats, monitor, all, rig.quick ? 1000 : 4000) : undefined;
      const port = all[1 % count]!.port;
      const workerPort = all[2 % count]!.port;
      const before = await Promise.all(all.map(({ child }) => child.ask('usage', { collect: false })));
      const run = await rig.load((load) =>
        counted(nats, monitor, async () => {
          const batches = {
            batch: BATCH,
            taskBytes: TASK_BYTES,
            outstanding: OUTSTANDING,
            spread: 'batch' as const,
          };
          const done = await load.ask('nativeLoad', {
            ...span,
            ...batches,
            port,
            workerPort,
            mailboxes,
            results: false,
          });
          const after = await Promise.all(all.map(({ child }) => child.ask('usage', { collect: false })));
          const cpuUs = after.reduce((sum, usage, index) => sum + usage.cpuUs - before[index]!.cpuUs, 0);
          return { done, cpuUs };
        }),
      );
      return { ...run, ...(rest === undefined ? {} : { rest }) };
    });
  });
}

/** What it costs that they are there. */
async function resting(
  nats: NatsServer,
  monitor: string,
  all: readonly RunningBroker[],
  ms: number,
): Promise<Rest> {
  const look = async () => {
    const usages = await Promise.all(all.map(({ child }) => child.ask('usage', { collect: false })));
    const cpuUs = usages.reduce((sum, usage) => sum + usage.cpuUs, 0);
    const { rssBytes } = usages[0]!;
    return { ...(await messagesOf(monitor)), natsUs: cpuOf(nats), cpuUs, rssBytes, at: performance.now() };
  };
  const before = await look();
  await sleep(ms);
  const after = await look();
  const seconds = (after.at - before.at) / 1000;
  return {
    received: (after.received - before.received) / seconds,
    sent: (after.sent - before.sent) / seconds,
    brokersMs: (after.cpuUs - before.cpuUs) / 1000 / seconds,
    natsMs: (after.natsUs - before.natsUs) / 1000 / seconds,
    rssBytes: after.rssBytes,
  };
}

function queue(rig: Rig, span: Span): Promise<Run> {
  return withNats((nats, monitor) =>
    rig.load((load) =>
      counted(nats, monitor, async () => {
        const outstanding = 4096;
        const done = await load.ask('queueLoad', {
          ...span,
          server: nats.url,
          taskBytes: TASK_BYTES,
          outstanding,
        });
        return { done, cpuUs: 0 };
      }),
    ),
  );
}

/** Every broker serves about as many shards as the others. */
async function settled(all: readonly RunningBroker[]): Promise<boolean> {
  const shards = await Promise.all(all.map(({ child }) => child.ask('shards', undefined)));
  const sum = shards.reduce((total, some) => total + some, 0);
  return sum === 16 && Math.max(...shards) - Math.min(...shards) <= 1;
}

async function withNats<T>(use: (nats: NatsServer, monitor: string) => Promise<T>): Promise<T> {
  const port = await freePort();
  const nats = await NatsServer.start({ more: `http: "127.0.0.1:${port}"` });
  try {
    return await use(nats, `http://127.0.0.1:${port}/varz`);
  } finally {
    await nats.remove();
  }
}

/** Runs it, and counts what it took; all that was done counts, also before and after the measured span. */
async function counted(
  nats: NatsServer,
  monitor: string,
  run: () => Promise<{ readonly done: Done; readonly cpuUs: number }>,
): Promise<Run> {
  const [before, used] = [await messagesOf(monitor), cpuOf(nats)];
  const { done, cpuUs } = await run();
  const { tasks, ms, loadCpuUs, all } = done;
  return {
    perSecond: (tasks / ms) * 1000,
    brokersUs: cpuUs / all,
    natsUs: (cpuOf(nats) - used) / all,
    loadUs: loadCpuUs / tasks,
    messages: ((await messagesOf(monitor)).received - before.received) / all,
  };
}

async function messagesOf(monitor: string): Promise<{ received: number; sent: number }> {
  const answer = (await (await fetch(monitor)).json()) as { in_msgs: number; out_msgs: number };
  return { received: answer.in_msgs, sent: answer.out_msgs };
}

/** CPU time that the server has used since it began, in microseconds. */
function cpuOf({ pid }: NatsServer): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}
