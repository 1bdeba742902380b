import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { significant } from '../src/cli/format.ts';
import { churns } from '../test/support/churn.ts';

const BROKERS = 100;
const AGENTS = 1_000_000;
const TASKS_PER_SECOND = 1_000_000;
const PULSES_PER_SECOND = 2;
/** How busy a core may be, so that a burst finds room. */
const BUSY = 0.6;
const MIB = 2 ** 20;

/** What the model is made of; each with where it is from. */
interface Costs {
  /** CPU time of brokers for a task, in microseconds. */
  readonly taskUs: number;
  /** The same of NATS. */
  readonly natsUs: number;
  /** Messages that NATS gets for a task. */
  readonly messages: number;
  /** Bytes of memory of an agent that is attached, and of one broker that does nothing. */
  readonly agentBytes: number;
  readonly brokerBytes: number;
  /** CPU time for one pulse of another broker, at the broker and at NATS, in microseconds. */
  readonly pulseUs: number;
  readonly pulseNatsUs: number;
  readonly from: readonly string[];
}

interface Spread {
  readonly brokers: number;
  readonly brokersUs: number;
  readonly natsUs: number;
  readonly messages: number;
  readonly rest?: {
    readonly received: number;
    readonly sent: number;
    readonly brokersMs: number;
    readonly natsMs: number;
    readonly rssBytes: number;
  };
}

async function measured<T>(name: string): Promise<{ raw: T; date: string; machine: string } | undefined> {
  const file = new URL(`../docs/benchmarks/${name}.json`, import.meta.url);
  return existsSync(file)
    ? (JSON.parse(await readFile(file, 'utf8')) as { raw: T; date: string; machine: string })
    : undefined;
}

const cluster = await measured<{ readonly spread?: readonly Spread[] }>('cluster');
const memory = await measured<{ readonly agent: { readonly rss: number } }>('memory');
const spread = cluster?.raw.spread ?? [];
const widest = spread.at(-1);

const costs: Costs = {
  taskUs: widest?.brokersUs ?? 15,
  natsUs: widest?.natsUs ?? 3,
  messages: widest?.messages ?? 0.05,
  agentBytes: memory?.raw.agent.rss ?? 2048,
  brokerBytes: widest?.rest?.rssBytes ?? 160 * MIB,
  pulseUs: 50,
  pulseNatsUs: 5,
  from: [
    widest === undefined
      ? 'CPU and messages of a task, memory of a broker: **assumed**, since `make bench ONLY=cluster` was not run for this version'
      : `CPU and messages of a task, memory of a broker: [measured](benchmarks/cluster.md) with ${widest.brokers} brokers on ${cluster!.machine}, ${cluster!.date}`,
    memory === undefined
      ? 'memory of an agent: **assumed**'
      : `memory of an agent (resident, in a session it shares): [measured](benchmarks/memory.md), ${memory.date}`,
    'a pulse of another broker: 50 µs to read at a broker, 5 µs to pass on at NATS, **assumed** from the cost of JSON of some kB',
  ],
};

/** What a cluster of `brokers` needs, by the model. */
function model(brokers: number, agents: number, tasksPerSecond: number) {
  const heard = PULSES_PER_SECOND * brokers;
  const pulseShare = (heard * costs.pulseUs) / 1e6;
  return {
    coreShare: (tasksPerSecond * costs.taskUs) / 1e6 / brokers + pulseShare,
    pulseShare,
    natsCores: (tasksPerSecond * costs.natsUs) / 1e6 + (heard * brokers * costs.pulseNatsUs) / 1e6,
    natsMessages: tasksPerSecond * costs.messages,
    pulseMessages: heard * brokers,
    memoryMiB: (costs.brokerBytes + (agents / brokers) * costs.agentBytes) / MIB,
  };
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function modelTable(): string {
  const rows = [1, 8, 25, BROKERS, 200].map((brokers) => {
    const tasks = (TASKS_PER_SECOND / BROKERS) * brokers;
    const agents = (AGENTS / BROKERS) * brokers;
    const { coreShare, pulseShare, natsCores, natsMessages, pulseMessages, memoryMiB } = model(
      brokers,
      agents,
      tasks,
    );
    return [
      `${brokers}`,
      significant(agents),
      significant(tasks),
      `${significant(coreShare * 100)} %`,
      `${significant(pulseShare * 100)} %`,
      significant(natsCores),
      significant(natsMessages),
      significant(pulseMessages),
      significant(memoryMiB),
    ];
  });
  return table(
    [
      'brokers',
      'agents',
      'tasks/s',
      'core of a broker',
      '… of it for pulses',
      'cores of NATS',
      'NATS messages/s for tasks',
      '… for pulses',
      'memory of a broker, MiB',
    ],
    rows,
  );
}

/** How far the model is from what was measured with few brokers. */
function checkTable(): string {
  const rows = spread.flatMap(({ brokers, rest }) => {
    if (rest === undefined) return [];
    const { pulseShare } = model(brokers, 0, 0);
    return [
      [
        `${brokers}`,
        significant(rest.sent),
        significant(PULSES_PER_SECOND * brokers * brokers),
        significant(rest.brokersMs / brokers),
        significant(pulseShare * 1000),
      ],
    ];
  });
  if (rows.length === 0)
    return 'There is nothing to check it against yet: `make bench ONLY=cluster` measures 1, 2, 4 and 8 brokers, and writes this page again.';
  return [
    'At rest. What was measured holds everything that brokers do when nobody asks for anything, the model only pulses: it must not say more than was measured.',
    table(
      [
        'brokers',
        'messages/s from NATS, measured',
        'pulses/s, model',
        'CPU of a broker, ms/s, measured',
        'of it pulses, model',
      ],
      rows,
    ),
    table(
      ['brokers', 'CPU of brokers, µs a task', 'CPU of NATS, µs a task', 'NATS messages a task'],
      spread.map(({ brokers, brokersUs, natsUs, messages }) => [
        `${brokers}`,
        significant(brokersUs),
        significant(natsUs),
        significant(messages),
      ]),
    ),
  ].join('\n\n');
}

function churnTable(shards: number): string {
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const rows = churns(BROKERS, shards).map(({ name, steps }) => [
    name,
    `${steps.length}`,
    significant(sum(steps.map(({ moved }) => moved))),
    significant(sum(steps.map(({ least }) => least))),
    `${Math.max(...steps.map(({ moved }) => moved))}`,
    `${Math.max(...steps.map(({ got }) => got))}`,
    `${Math.max(...steps.map(({ uneven }) => uneven))}`,
  ]);
  return table(
    [
      `${shards} shards`,
      'changes',
      'shards moved',
      'least possible',
      'most at once',
      'most to one broker',
      'unevenness',
    ],
    rows,
  );
}

const { coreShare, memoryMiB } = model(BROKERS, AGENTS, TASKS_PER_SECOND);
const needed = Math.ceil((TASKS_PER_SECOND * costs.taskUs) / 1e6 / (BUSY - model(BROKERS, 0, 0).pulseShare));

const page = `# How far it scales

<!-- Written by tools/generate-scale-docs.ts from docs/benchmarks and the code; make generate writes it again. -->

Nobody has run a hundred brokers on the machine that this repository is tested on. This page says what a hundred would need, by
a model that is small enough to argue with, from what was measured with few, and what the assignment of shards does with a
hundred, which is computed by the code itself.

## The model

- **CPU.** A task costs its brokers the same wherever they are: the edge that takes it, the owner that hands it out, the edge of its
  worker. A broker is one process and uses one core; it should be at most ${BUSY * 100} % busy.
- **NATS.** Tasks travel in batches, so messages per task fall as load rises. Each broker is heard by each,
  ${PULSES_PER_SECOND} times a second (\`cluster.pulseMs\`): ${PULSES_PER_SECOND} N² messages a second.
- **Memory.** Agents are spread evenly, and cost their broker what an attached agent costs; queued tasks come on top, up to
  \`limits.memoryHighWaterBytes\`.
- **Shards.** A shard has one owner: there must be as many shards as brokers, better four times as many, and one shard is never faster
  than one core. One capability that is busier than that is split with \`spread\` in its placement rule.
- Not in the model: TLS, large payloads, the network between machines, replicas of JetStream (a record costs NATS as often as there
  are replicas; beyond some hundred streams, three servers are not enough), and machines that share their cores with others.

Where the figures are from:

${costs.from.map((line) => `- ${line}.`).join('\n')}

${modelTable()}

So ${BROKERS} brokers with ${significant(AGENTS)} agents and ${significant(TASKS_PER_SECOND)} tasks a second are ${significant(coreShare * 100)} % busy each, and hold ${significant(memoryMiB)} MiB before
anything is queued; ${needed} would carry the same tasks at ${BUSY * 100} %. Pulses grow with the square of the brokers: at ${BROKERS} they are
${significant(model(BROKERS, 0, 0).pulseShare * 100)} % of a core of each broker; beyond 300, raise \`cluster.pulseMs\` and \`cluster.deadAfterMs\` together, and accept that a dead
broker is noticed later.

## Beside what was measured

${checkTable()}

## A hundred brokers that come and go

Computed by \`assign\`, which decides who owns what in every cluster; what it promises in each of these is asserted by
\`test/unit/core/churn.test.ts\`. _Least possible_: shards whose broker is gone or drains, and those without which the numbers of shards
would differ by more than one. _Most at once_ is the size of the storm: so many logs are replayed at the same time, at most
_most to one broker_ of them by the same one.

${churnTable(256)}

${churnTable(1024)}

No shard moves that need not. When a zone dies, its shards are spread over all brokers that are left, so that each has a few logs to
replay; when it comes back, they move in hand-overs, each a pause of milliseconds for one shard
([measured](benchmarks/moves.md)). In a rolling update a shard moves about twice: away from the broker that drains, and to the one that
is new, towards which \`assign\` leans.
`;

const folder = join(process.argv[2] ?? '.', 'docs');
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'scale.md'), page);
