import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LedgerSums } from '../../../src/cli/bench/ledger.ts';
import type { Bars } from '../../../src/cli/bench/svg.ts';
import { Child } from '../child.ts';
import type { Running, Start } from '../compare/servers.ts';
import { agentHub, bare, bullMq, jetStream, rabbitMq } from '../compare/servers.ts';
import type { CompareCalls, Delay } from '../compare/load/main.ts';
import { short } from '../figures.ts';
import type { Report, Table, Target } from '../report.ts';
import type { Rig } from '../rig.ts';

const PAYLOAD_BYTES = 256;
const OUTSTANDING = 4000;
const BATCH = 100;
/** A part of a run that takes longer is given up. */
const GIVE_UP_MS = 60_000;
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** Somebody who keeps the promise of a level. */
interface Contender {
  readonly name: string;
  readonly start: Start;
  readonly ours?: boolean;
}

/** Contenders that promise the same. */
interface Level {
  readonly name: string;
  readonly promise: string;
  readonly contenders: readonly Contender[];
  /** Whether a killed server is to lose nothing. */
  readonly survives: boolean;
}

const ours = (name: string, start: Start): Contender => ({ name, start, ours: true });
const rival = (name: string, start: Start): Contender => ({ name, start });

const LEVELS: readonly Level[] = [
  {
    name: 'nothing',
    promise: 'The ceiling: gRPC for Node alone. A server passes on what it gets, and keeps nothing.',
    survives: false,
    contenders: [
      rival('bare grpc-js, a call a task', bare(false)),
      rival(`bare grpc-js, frames of ${BATCH}`, bare(true)),
    ],
  },
  {
    name: 'memory',
    promise: 'An acknowledged task is in the memory of one server, and gone with its process.',
    survives: false,
    contenders: [
      ours('AgentHub', agentHub({ flags: { 'data-log': 'memory' }, batch: 1 })),
      ours(`AgentHub, batches of ${BATCH}`, agentHub({ flags: { 'data-log': 'memory' }, batch: BATCH })),
      rival('JetStream, memory storage', jetStream({ storage: 'memory', sync: '1s', servers: 1 })),
      rival('RabbitMQ, transient queue', rabbitMq({ queue: 'transient', nodes: 1 })),
      rival('BullMQ, Redis without AOF', bullMq({ fsync: 'never' })),
    ],
  },
  {
    name: 'one disk',
    promise: 'It is written to one disk, and survives the process; a loss of power may cost the last second.',
    survives: true,
    contenders: [
      ours(
        'AgentHub',
        agentHub({ flags: { 'data-sync': 'interval', 'data-sync-interval-ms': '1s' }, batch: 1 }),
      ),
      ours(
        `AgentHub, batches of ${BATCH}`,
        agentHub({ flags: { 'data-sync': 'interval', 'data-sync-interval-ms': '1s' }, batch: BATCH }),
      ),
      ours('AgentHub on NATS, batches', agentHub({ flags: {}, batch: BATCH, nats: 1 })),
      rival('JetStream, file storage', jetStream({ storage: 'file', sync: '1s', servers: 1 })),
      rival('RabbitMQ, durable queue', rabbitMq({ queue: 'durable', nodes: 1 })),
      rival('BullMQ, AOF everysec', bullMq({ fsync: 'everysec' })),
    ],
  },
  {
    name: 'one disk, flushed',
    promise: 'It is flushed to one disk before the acknowledgement, and survives a loss of power.',
    survives: true,
    contenders: [
      ours('AgentHub', agentHub({ flags: { 'data-sync': 'always' }, batch: 1 })),
      ours(`AgentHub, batches of ${BATCH}`, agentHub({ flags: { 'data-sync': 'always' }, batch: BATCH })),
      ours('AgentHub on NATS, batches', agentHub({ flags: {}, batch: BATCH, nats: 1, sync: 'always' })),
      rival('JetStream, sync always', jetStream({ storage: 'file', sync: 'always', servers: 1 })),
      rival('RabbitMQ, quorum queue', rabbitMq({ queue: 'quorum', nodes: 1 })),
      rival('BullMQ, AOF always', bullMq({ fsync: 'always' })),
    ],
  },
  {
    name: 'three replicas',
    promise:
      'Two of three servers have it before the acknowledgement, here all on one machine. RabbitMQ flushes each; NATS does so every second.',
    survives: true,
    contenders: [
      ours('AgentHub on NATS', agentHub({ flags: {}, batch: 1, nats: 3 })),
      ours('AgentHub on NATS, batches', agentHub({ flags: {}, batch: BATCH, nats: 3 })),
      rival('JetStream, R3', jetStream({ storage: 'file', sync: '1s', servers: 3 })),
      rival('RabbitMQ, quorum queue of 3', rabbitMq({ queue: 'quorum', nodes: 3 })),
    ],
  },
];

/** What was measured of a contender at a level. */
interface Row {
  readonly level: string;
  readonly name: string;
  readonly ours: boolean;
  readonly perSecond: number;
  readonly delay: Delay;
  /** Seconds of CPU for 100,000 tasks. */
  readonly serverCpu: number;
  readonly clientCpu: number;
  /** Bytes a task. */
  readonly written: number;
  /** Bytes that are left when all tasks are done. */
  readonly left: number;
  readonly killed: (LedgerSums & { readonly backMs: number }) | undefined;
}

/** Somebody who could not be measured, and why. */
interface Missing {
  readonly level: string;
  readonly name: string;
  readonly why: string;
}

const TEXT = `
Tasks of ${PAYLOAD_BYTES} bytes of payload go from one process that publishes and works, over one queue, back to it. Everybody uses
the client library for Node that its own documentation names, in the way that is documented as fast: the SDK of AgentHub one
task at a time (\`publish\`, \`work\`) and in batches of ${BATCH} (\`publishBatch\`, \`workBatch\`); JetStream (\`nats\`) with a message a task, published
asynchronously, pulled and acknowledged one by one; RabbitMQ (\`amqplib\`) with publisher confirms, a prefetch of 1,000, and
acknowledgements one by one; BullMQ with bulks of ${BATCH} and 200 jobs at a time. Each row is a run of its own, on a fresh server, one after the
other, on the same machine, disk and processors, which servers and clients share.

- **tasks/s**: a closed loop, up to ${short(OUTSTANDING)} tasks published and not done yet.
- **p50, p99**: an open loop at half of that rate; milliseconds from when a task was due, whether or not it could be sent then,
  to when its worker had it.
- **CPU**: seconds of all server processes, and of the process that publishes and works, for 100,000 tasks.
- **written, left**: bytes that servers wrote to the device per task, and what their folders hold when all is done.
- **kill -9**: under load the server (of three: one) is killed, and started again 300 ms later. _Lost_: acknowledged, and never delivered.
  _Twice_: delivered more than once. _Stall_: from the kill until the next acknowledgement.
  The machine lives on, and so does what it has not yet written to the device: this proves nothing about fsync.

What each level promises:
`;

/** AgentHub beside those that one would use instead, promise by promise. */
export async function compare(rig: Rig): Promise<Report> {
  const rows: Row[] = [];
  const missing: Missing[] = [];
  const wanted = (level: Level): readonly Contender[] =>
    level.contenders.filter(({ name }) => `${level.name}: ${name}`.includes(rig.match));
  const total = LEVELS.reduce((sum, level) => sum + wanted(level).length, 0);
  for (const level of LEVELS) {
    for (const contender of wanted(level)) {
      const { name } = contender;
      const tell = (what: string): void =>
        rig.tell(`${rows.length + missing.length + 1} of ${total}: ${level.name}: ${name}: ${what}`);
      try {
        rows.push(await measured(rig, level, contender, tell));
      } catch (error) {
        const why = Error.isError(error) ? error.message.split('\n')[0]! : String(error);
        missing.push({ level: level.name, name, why });
        tell(`left out: ${why}`);
      }
    }
  }
  const promises = LEVELS.map(({ name, promise }) => `- **${name}**: ${promise}`).join('\n');
  return {
    text: [TEXT.trim(), promises, `Versions: ${versions().join(', ')}.`, verdict(rows), absent(missing)]
      .filter((part) => part !== '')
      .join('\n\n'),
    targets: targetsOf(rows),
    tables: LEVELS.map((level) => tableOf(level, rows)).filter(({ rows: all }) => all.length > 0),
    charts: [
      chartOf(rows, 'Tasks a second', 'tasks/s; more is better', ({ perSecond }) => perSecond),
      chartOf(
        rows,
        'CPU for 100,000 tasks',
        'seconds, servers and clients; less is better',
        (row) => row.serverCpu + row.clientCpu,
      ),
      chartOf(rows, 'Delay at half load', 'p99, ms; less is better', ({ delay }) => delay.p99),
    ],
    raw: { rows, missing },
  };
}

async function measured(
  rig: Rig,
  level: Level,
  { name, start, ours = false }: Contender,
  tell: (what: string) => void,
): Promise<Row> {
  const [warmMs, measureMs, pacedMs] = rig.quick ? [300, 700, 700] : [1000, 3000, 2500];
  const common = { payloadBytes: PAYLOAD_BYTES, outstanding: OUTSTANDING, warmMs, measureMs };
  return serving(rig, start, tell, async ({ daemons, spec, victim }) => {
    const before = usageOf(daemons);
    const load = new Child<CompareCalls>('compare/load/main.ts');
    try {
      tell('saturated');
      const done = await timely(load.ask('saturate', { ...common, spec }), name);
      const after = usageOf(daemons);
      const perSecond = (done.tasks / done.ms) * 1000;
      const left = daemons.reduce((sum, daemon) => sum + daemon.disk(), 0);
      tell('at half load');
      const half = { ...common, spec, perSecond: perSecond / 2, warmMs: warmMs / 2, measureMs: pacedMs };
      const delay = await timely(load.ask('paced', half), name);
      const killed = level.survives
        ? await survived(
            load,
            victim,
            () => load.ask('endure', { ...common, spec, outstanding: 400 }),
            rig,
            tell,
          )
        : undefined;
      return {
        level: level.name,
        name,
        ours,
        perSecond,
        delay,
        serverCpu: (after.cpuUs - before.cpuUs) / done.all / 10,
        clientCpu: done.loadCpuUs / done.tasks / 10,
        written: (after.written - before.written) / done.all,
        left,
        killed,
      };
    } finally {
      load.kill();
    }
  });
}

async function survived(
  load: Child<CompareCalls>,
  victim: Running['victim'],
  endure: () => Promise<LedgerSums>,
  rig: Rig,
  tell: (what: string) => void,
): Promise<LedgerSums & { readonly backMs: number }> {
  tell('killed under load');
  const ending = timely(endure(), victim.options.name);
  await sleep(rig.quick ? 500 : 1500);
  await victim.kill();
  const killedAt = performance.now();
  const accepted = await load.ask('accepted', undefined);
  await sleep(300);
  await victim.start();
  while ((await load.ask('accepted', undefined)) <= accepted && performance.now() - killedAt < 20_000)
    await sleep(10);
  const backMs = performance.now() - killedAt;
  await sleep(rig.quick ? 300 : 1000);
  await load.ask('stop', undefined);
  return { ...(await ending), backMs };
}

/** Runs `use` with the servers of a contender, and leaves nothing. */
async function serving<T>(
  rig: Rig,
  start: Start,
  tell: (what: string) => void,
  use: (running: Running) => Promise<T>,
): Promise<T> {
  const dir = mkdtempSync(join(rig.folder, 'compare-'));
  tell('starting');
  let running: Running | undefined;
  try {
    running = await start(dir);
    return await use(running);
  } finally {
    for (const daemon of [...(running?.daemons ?? []), ...(running?.beside ?? [])]) await daemon.kill();
    rmSync(dir, { recursive: true, force: true });
  }
}

function usageOf(daemons: Running['daemons']): { cpuUs: number; written: number } {
  const all = daemons.map((daemon) => daemon.usage());
  const sum = (figure: 'cpuUs' | 'written'): number => all.reduce((total, one) => total + one[figure], 0);
  return { cpuUs: sum('cpuUs'), written: sum('written') };
}

/** Nobody may hold up all others. */
async function timely<T>(measuring: Promise<T>, name: string): Promise<T> {
  const aborter = new AbortController();
  const late = sleep(GIVE_UP_MS, undefined, { signal: aborter.signal }).then(() => {
    throw new Error(`${name} did not get through within ${GIVE_UP_MS / 1000} s`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([measuring, late]);
  } finally {
    aborter.abort();
  }
}

function tableOf(level: Level, rows: readonly Row[]): Table {
  const shown = rows.filter((row) => row.level === level.name);
  const killed = level.survives ? ['lost', 'twice', 'stall, s'] : [];
  return {
    title: level.name[0]!.toUpperCase() + level.name.slice(1),
    columns: [
      '',
      'tasks/s',
      'p50, ms',
      'p99, ms',
      'CPU servers, s',
      'CPU clients, s',
      'written, B',
      'left, MiB',
      ...killed,
    ],
    rows: shown.map((row) => [
      row.ours ? `**${row.name}**` : row.name,
      short(row.perSecond),
      short(row.delay.p50),
      short(row.delay.p99),
      short(row.serverCpu),
      short(row.clientCpu),
      short(row.written),
      short(row.left / 2 ** 20),
      ...(row.killed
        ? [short(row.killed.lost), short(row.killed.redelivered), short(row.killed.backMs / 1000)]
        : []),
    ]),
  };
}

function chartOf(rows: readonly Row[], title: string, unit: string, value: (row: Row) => number): Bars {
  const groups = LEVELS.map(({ name }) => ({
    name,
    bars: rows
      .filter(({ level }) => level === name)
      .map((row) => ({ name: row.name, value: value(row), ours: row.ours })),
  }));
  return { title, unit, groups: groups.filter(({ bars }) => bars.length > 0) };
}

/** The figures in which somebody may be ahead; `more`: more of it is better. */
const FIGURES: readonly {
  readonly name: string;
  readonly more: boolean;
  readonly show: (value: number) => string;
  readonly of: (row: Row) => number;
}[] = [
  { name: 'tasks/s', more: true, show: short, of: ({ perSecond }) => perSecond },
  {
    name: 'p50 at half load',
    more: false,
    show: (value) => `${short(value)} ms`,
    of: ({ delay }) => delay.p50,
  },
  {
    name: 'p99 at half load',
    more: false,
    show: (value) => `${short(value)} ms`,
    of: ({ delay }) => delay.p99,
  },
  {
    name: 'CPU of all',
    more: false,
    show: (value) => `${short(value)} s`,
    of: ({ serverCpu, clientCpu }) => serverCpu + clientCpu,
  },
  {
    name: 'CPU of the servers',
    more: false,
    show: (value) => `${short(value)} s`,
    of: ({ serverCpu }) => serverCpu,
  },
  { name: 'bytes written', more: false, show: (value) => `${short(value)} B`, of: ({ written }) => written },
  {
    name: 'left on disk',
    more: false,
    show: (value) => `${short(value / 2 ** 20)} MiB`,
    of: ({ left }) => left,
  },
  { name: 'tasks lost', more: false, show: short, of: ({ killed }) => killed?.lost ?? 0 },
  { name: 'tasks delivered twice', more: false, show: short, of: ({ killed }) => killed?.redelivered ?? 0 },
  {
    name: 'stall after a kill',
    more: false,
    show: (value) => `${short(value)} s`,
    of: ({ killed }) => (killed?.backMs ?? 0) / 1000,
  },
];

/** Where the best of ours is behind the best of the others, whatever the figure. */
function verdict(rows: readonly Row[]): string {
  const losses: string[] = [];
  for (const { name: level } of LEVELS.slice(1)) {
    const [we, they] = [true, false].map((ours) =>
      rows.filter((row) => row.level === level && row.ours === ours),
    ) as [Row[], Row[]];
    if (we.length === 0 || they.length === 0) continue;
    for (const { name, more, show, of } of FIGURES) {
      // Who has no figure is not the best.
      const rank = (row: Row): number => (Number.isFinite(of(row)) ? (more ? of(row) : -of(row)) : -Infinity);
      const best = (all: readonly Row[]): Row => all.reduce((a, b) => (rank(b) > rank(a) ? b : a));
      const [our, their] = [best(we), best(they)];
      const behind = more ? of(their) / of(our) : of(our) / Math.max(of(their), 1e-9);
      if (behind <= 1.05 || of(our) === of(their)) continue;
      const much = Number.isFinite(behind) && behind < 1000 ? ` (${behind.toFixed(1)} ×)` : '';
      losses.push(
        `- ${level}, ${name}: ${their.name} ${show(of(their))}, ${our.name} ${show(of(our))}${much}`,
      );
    }
  }
  return losses.length === 0
    ? '**Where AgentHub loses:** in none of these figures was anybody more than 5 % ahead of the best of its own rows.'
    : `**Where AgentHub loses**, its best row beside the best of the others, by more than 5 %:\n\n${losses.join('\n')}`;
}

function absent(missing: readonly Missing[]): string {
  if (missing.length === 0) return '';
  const list = missing.map(({ level, name, why }) => `- ${level}: ${name}: ${why}`).join('\n');
  return `**Not measured:**\n\n${list}`;
}

function targetsOf(rows: readonly Row[]): Target[] {
  return LEVELS.slice(1).flatMap(({ name: level }) => {
    const at = rows.filter((row) => row.level === level);
    const most = (ours: boolean): number =>
      Math.max(...at.filter((row) => row.ours === ours).map(({ perSecond }) => perSecond));
    const [we, they] = [most(true), most(false)];
    if (!Number.isFinite(we) || !Number.isFinite(they)) return [];
    const lost = at.filter((row) => row.ours).reduce((sum, { killed }) => sum + (killed?.lost ?? 0), 0);
    return [
      {
        measure: `${level}: tasks a second, beside the fastest of the others; nothing lost`,
        reach: '≥ 1 ×, 0 lost',
        got: `${(we / they).toFixed(1)} ×, ${lost} lost`,
        reached: we >= they && lost === 0,
      },
    ];
  });
}

function versions(): string[] {
  const of = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string => {
    try {
      return execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env } }).trim();
    } catch {
      return '';
    }
  };
  const debian = join(ROOT, '.tools/compare/root');
  const library = { LD_LIBRARY_PATH: join(debian, 'usr/lib/x86_64-linux-gnu') };
  const redis = /v=([\d.]+)/.exec(of(join(debian, 'usr/bin/redis-server'), ['--version'], library))?.[1];
  const nats = of(join(ROOT, '.tools/bin/nats-server'), ['--version']).replace('nats-server: ', '');
  const rabbit = existsSync(join(debian, 'usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8'))
    ? '3.10.8'
    : undefined;
  const packages = ['amqplib', 'bullmq', 'ioredis'].flatMap((name) => {
    const file = join(ROOT, 'tools/compare/node_modules', name, 'package.json');
    if (!existsSync(file)) return [];
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
    return [`${name} ${version}`];
  });
  const client = JSON.parse(readFileSync(join(ROOT, 'node_modules/nats/package.json'), 'utf8')) as {
    version: string;
  };
  return [
    `nats-server ${nats}`,
    `nats ${client.version}`,
    ...(redis === undefined ? [] : [`Redis ${redis}`]),
    ...(rabbit === undefined ? [] : [`RabbitMQ ${rabbit}`]),
    ...packages,
  ];
}
