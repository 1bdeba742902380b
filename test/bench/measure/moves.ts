import { setTimeout as sleep } from 'node:timers/promises';
import type { Hub } from '../../../src/client/index.ts';
import { Admin, Broker, connect } from '../../../src/client/index.ts';
import { NatsServer } from '../../support/nats-server.ts';
import { quantile, short } from '../figures.ts';
import type { Report } from '../report.ts';
import type { Rig, RunningBroker } from '../rig.ts';

/** A task is published this often, in milliseconds: what is measured is no finer. */
const EVERY_MS = 2;
const MAILBOX = 'worker';

const TEXT = `
Three brokers on one NATS server. A requester publishes a task every ${EVERY_MS} ms to one mailbox; requester and worker are
connected to the third broker. The pause is the longest time between two completions while the shard of that mailbox
moves between the first two brokers (\`agenthub shards move\`), and while its owner is killed (\`kill -9\`), with the default
\`cluster.deadAfterMs\` of 1.75 s. Every task is counted: all were completed, each once.
`;

/** How long clients wait while a shard changes its owner. */
export async function moves(rig: Rig): Promise<Report> {
  const times = rig.quick ? 3 : 30;
  const nats = await NatsServer.start();
  try {
    const flags = { 'data-log': 'jetstream', 'nats-servers': nats.url, 'cluster-sessions': 'stay' };
    const { planned, unplanned } = await rig.brokers(flags, 3, (brokers) => measured(rig, brokers, times));
    const p99 = quantile(planned, 0.99);
    const longest = Math.max(...unplanned);
    return {
      text: TEXT,
      targets: [
        {
          measure: 'pause of a planned move of one shard',
          reach: 'p99 ≤ 200 ms',
          got: `p50 ${short(quantile(planned, 0.5))} ms, p99 ${short(p99)} ms`,
          reached: p99 <= 200,
        },
        {
          measure: 'take-over after the kill -9 of a broker',
          reach: '≤ 3 s',
          got: `${short(longest / 1000)} s`,
          reached: longest <= 3000,
        },
      ],
      tables: [],
      charts: [
        {
          title: 'Pauses of planned moves',
          x: 'move',
          y: 'ms',
          series: [{ name: 'pause', points: planned.map((ms, index) => [index + 1, ms] as const) }],
        },
      ],
      raw: { planned, unplanned },
    };
  } finally {
    await nats.remove();
  }
}

async function measured(
  rig: Rig,
  brokers: readonly RunningBroker[],
  times: number,
): Promise<{ planned: number[]; unplanned: number[] }> {
  const [one, two, three] = brokers as [RunningBroker, RunningBroker, RunningBroker];
  const address = `127.0.0.1:${three.port}`;
  const [asker, worker] = await Promise.all([connect({ address, agent: 'asker' }), connect({ address })]);
  const stream = new Stream(asker);
  await worker.work(MAILBOX, ({ id }) => stream.completed(id), { concurrency: 256 });
  stream.start();
  const planned: number[] = [];
  const { shard } = await asker.call(Broker.method.locate, { mailbox: MAILBOX });
  for (let move = 0; move < times; move++) {
    rig.tell(`planned move ${move + 1} of ${times}`);
    const to = move % 2 === 0 ? one : two;
    stream.forget();
    await asker.call(Admin.method.moveShard, { shard, broker: `b${brokers.indexOf(to)}` });
    while ((await to.child.ask('owned', [MAILBOX])).length === 0) await sleep(20);
    await sleep(200);
    planned.push(stream.longest);
  }
  rig.tell('kill -9 of the owner');
  const owner = (await one.child.ask('owned', [MAILBOX])).length > 0 ? one : two;
  stream.forget();
  owner.child.kill();
  await sleep(6000);
  const unplanned = [stream.longest];
  await stream.finish();
  await Promise.all([asker.close({ graceMs: 0 }), worker.close({ graceMs: 0 })]);
  return { planned, unplanned };
}

/** Tasks in a steady stream, and the longest time in which none was completed. */
class Stream {
  longest = 0;
  private readonly hub: Hub;
  private readonly open = new Set<string>();
  private last = performance.now();
  private sent = 0;
  private running = true;
  private publishing: Promise<void> = Promise.resolve();

  constructor(hub: Hub) {
    this.hub = hub;
  }

  start(): void {
    this.publishing = this.publish();
  }

  completed(id: string): void {
    if (!this.open.delete(id)) throw new Error(`task ${id} was done twice`);
    const now = performance.now();
    this.longest = Math.max(this.longest, now - this.last);
    this.last = now;
  }

  /** Counts pauses anew. */
  forget(): void {
    this.longest = 0;
    this.last = performance.now();
  }

  /** Publishes no more; resolves when all are done. */
  async finish(): Promise<void> {
    this.running = false;
    await this.publishing;
    while (this.open.size > 0) await sleep(10);
  }

  private async publish(): Promise<void> {
    const published: Promise<unknown>[] = [];
    while (this.running) {
      const id = `${this.sent++}`;
      this.open.add(id);
      published.push(this.hub.publish({ to: MAILBOX, id }));
      await sleep(EVERY_MS);
    }
    await Promise.all(published);
  }
}
