import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'hdr-histogram-js';
import type { LedgerSums } from '../../../../src/cli/bench/ledger.ts';
import { Ledger } from '../../../../src/cli/bench/ledger.ts';
import { readStamp, writeStamp } from '../../../../src/cli/bench/stamp.ts';
import { answer } from '../../child.ts';
import type { Done } from '../../load/meter.ts';
import { Meter } from '../../load/meter.ts';
import { openAgentHub } from './agenthub.ts';
import { openBare } from './bare.ts';
import { openBullMq } from './bullmq.ts';
import type { Client, ClientSpec, Ears } from './client.ts';
import { openJetStream } from './jetstream.ts';
import { openRabbitMq } from './rabbitmq.ts';

/** Makes the load of a comparison, in a process of its own: one who publishes, one who works. */

/** A load to make. */
export interface LoadOptions {
  readonly spec: ClientSpec;
  readonly payloadBytes: number;
  /** Tasks that are published and not completed yet. */
  readonly outstanding: number;
  readonly warmMs: number;
  readonly measureMs: number;
}

/** Milliseconds from when a task was due to when its worker had it. */
export interface Delay {
  readonly p50: number;
  readonly p99: number;
}

function open(spec: ClientSpec, ears: Ears): Promise<Client> {
  switch (spec.client) {
    case 'agenthub':
      return openAgentHub(spec, ears);
    case 'bare':
      return openBare(spec, ears);
    case 'jetstream':
      return openJetStream(spec, ears);
    case 'rabbitmq':
      return openRabbitMq(spec, ears);
    case 'bullmq':
      return openBullMq(spec, ears);
  }
}

/** The first tasks, before which nothing is measured: some workers need seconds to get going. */
const COLD = 500;

/** A closed loop: as many tasks as go through while so many are on their way. */
async function saturate({ spec, payloadBytes, outstanding, ...span }: LoadOptions): Promise<Done> {
  const meter = new Meter(span);
  let [sent, completed] = [0, 0];
  let warm = false;
  const client = await open(spec, {
    delivered() {},
    completed(tasks) {
      completed += tasks;
      if (!warm && completed >= COLD) {
        warm = true;
        meter.start();
      }
      meter.add(tasks);
      pump();
    },
  });
  function pump(): void {
    while (!meter.over && sent - completed + client.batch <= outstanding) {
      const payloads = Array.from({ length: client.batch }, () => Buffer.alloc(payloadBytes, 'x'));
      sent += client.batch;
      void client.publish(payloads);
    }
  }
  pump();
  const done = await meter.done;
  for (const until = Date.now() + 5000; completed < sent && Date.now() < until;) await sleep(20);
  await client.close();
  return { ...done, all: completed };
}

/** An open loop: tasks are due at their times, however fast they are taken. */
async function paced(load: LoadOptions & { readonly perSecond: number }): Promise<Delay> {
  const { spec, payloadBytes, perSecond, warmMs, measureMs } = load;
  const delays = build({ numberOfSignificantValueDigits: 3 });
  let began = Infinity;
  let [sent, received] = [0, 0];
  const client = await open(spec, {
    delivered(payload) {
      const { dueMs } = readStamp(payload, 0);
      const now = performance.now();
      if (dueMs > 0 && dueMs >= began + warmMs && dueMs <= now) delays.recordValue((now - dueMs) * 1000);
    },
    completed(tasks) {
      received += tasks;
    },
  });
  while (sent < COLD) {
    sent += client.batch;
    void client.publish(Array.from({ length: client.batch }, () => Buffer.alloc(payloadBytes)));
  }
  for (const until = Date.now() + 10_000; received < sent && Date.now() < until;) await sleep(10);
  sent = received = 0;
  const every = 1000 / perSecond;
  const total = Math.floor((warmMs + measureMs) / every / client.batch) * client.batch;
  began = performance.now();
  while (sent < total) {
    // A batch leaves when the first of its tasks is due.
    while (sent < total && began + sent * every <= performance.now()) {
      const dueMs = began + sent * every;
      const payloads = Array.from({ length: client.batch }, () => {
        const payload = Buffer.alloc(payloadBytes, 'x');
        writeStamp(payload, 0, sent++, dueMs);
        return payload;
      });
      void client.publish(payloads);
    }
    await sleep(1);
  }
  for (const until = Date.now() + 5000; received < sent && Date.now() < until;) await sleep(10);
  await client.close();
  if (delays.totalCount === 0) return { p50: NaN, p99: NaN };
  return { p50: delays.getValueAtPercentile(50) / 1000, p99: delays.getValueAtPercentile(99) / 1000 };
}

let ledger: Ledger | undefined;
let stopping = false;

/** Publishes until it is told to stop, whatever befalls the servers; then waits for what was accepted. */
async function endure({ spec, payloadBytes, outstanding }: LoadOptions): Promise<LedgerSums> {
  const book = new Ledger(1, 1, false);
  ledger = book;
  stopping = false;
  let deliveries = 0;
  const client = await open(spec, {
    delivered(payload) {
      deliveries++;
      book.deliver(0, readStamp(payload, 0).number, 0);
    },
    completed() {},
  });
  let sent = 0;
  const lane = async (): Promise<void> => {
    while (!stopping) {
      const first = sent;
      const payloads = Array.from({ length: client.batch }, () => {
        const payload = Buffer.alloc(payloadBytes, 'x');
        writeStamp(payload, 0, sent++, 0);
        return payload;
      });
      book.send(client.batch);
      const taken = await client.publish(payloads);
      taken.forEach((yes, index) => (yes ? book.accept(0, first + index) : book.doubt(0, first + index)));
      if (taken.includes(false)) await sleep(50);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, outstanding / client.batch) }, lane));
  // Until nothing has come for a while: longer than anybody here takes to notice that a worker is gone.
  for (let [quiet, seen] = [0, -1]; quiet < 100 && (quiet < 10 || book.sums().lost > 0);) {
    await sleep(100);
    quiet = deliveries === seen ? quiet + 1 : 0;
    seen = deliveries;
  }
  await client.close();
  return book.sums();
}

const calls = {
  saturate,
  paced,
  endure,
  accepted: (): number => ledger?.accepted ?? 0,
  stop: (): void => {
    stopping = true;
  },
};

/** What this process can be asked. */
export type CompareCalls = typeof calls;

// What a server does to a client that is in the middle of something is no fault of the comparison.
process.on('unhandledRejection', () => {});
answer(calls);
