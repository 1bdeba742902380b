import { connect } from '../../../src/client/index.ts';
import { SettleWriter } from '../../../src/wire/client-batch.ts';
import { MOVE, WORKER } from '../bare/method.ts';
import type { BatchShape } from './bytes.ts';
import { BatchTemplate, settleFrame } from './bytes.ts';
import type { Done, Span } from './meter.ts';
import { Meter } from './meter.ts';
import { ByteStream, FrameSession } from './stream.ts';

/** A closed loop of batches between one publisher and one worker, each with a connection of its own. */
export interface BatchLoad extends Span {
  readonly port: number;
  /** Where the workers connect, if elsewhere. */
  readonly workerPort?: number;
  /** Tasks of a batch. */
  readonly batch: number;
  /** Bytes of one serialized task, all included. */
  readonly taskBytes: number;
  /** Batches on their way, from the publish to the acknowledged completion. */
  readonly outstanding: number;
  readonly mailboxes: readonly string[];
  /** `batch`: all tasks of a batch go to one mailbox, in turn; `task`: to one after the other. */
  readonly spread: 'batch' | 'task';
  /** Whether the tasks have a requester, who receives and acknowledges a result of each. */
  readonly results: boolean;
  /** Sessions that the worker's mailboxes are shared out to. Default 1. */
  readonly workers?: number;
  /** The number of the first task; ids of one broker must not repeat. Default 0. */
  readonly first?: number;
}

/** Loads a broker by prepared frames: what the two clients do beside gRPC is as good as nothing. */
export async function nativeLoad(load: BatchLoad): Promise<Done> {
  const { port, mailboxes, batch, outstanding, results, first = 0 } = load;
  const meter = new Meter(load);
  let sent = 0;
  let completed = 0;
  const templates = templatesOf(load);
  const pump = (): void => {
    while (!meter.over && sent - completed < outstanding * batch) {
      const template = templates[(sent / batch) % templates.length]!;
      publisher.write(template.frame(sent / batch + 1, first + sent));
      sent += batch;
    }
  };
  const ended = (tasks: number): void => {
    completed += tasks;
    meter.add(tasks);
    pump();
  };
  const publisher = settling(port, ended);
  // First of all: workers of a backlog are done with the first tasks before all of them are attached.
  await publisher.open(results ? mailboxes.map((mailbox) => `reply:${requesterOf(mailbox)}`) : []);
  const workers = await work(load, results ? () => {} : ended);
  meter.start();
  pump();
  const done = await meter.done;
  for (const worker of workers) worker.close();
  publisher.close();
  return done;
}

/** Sessions that complete whatever comes to the mailboxes. */
async function work(
  { port, workerPort = port, mailboxes, workers = 1 }: BatchLoad,
  ended: (tasks: number) => void,
): Promise<FrameSession[]> {
  const sessions: FrameSession[] = [];
  const share = Math.ceil(mailboxes.length / workers);
  for (let from = 0; from < mailboxes.length; from += share) {
    const session = settling(workerPort, ended);
    await session.open(mailboxes.slice(from, from + share));
    sessions.push(session);
  }
  return sessions;
}

/** A session that completes whatever it gets, and says how many when that is acknowledged. */
function settling(port: number, ended: (tasks: number) => void): FrameSession {
  const writer = new SettleWriter();
  const unacknowledged: number[] = [];
  let settles = 0;
  let open = false;
  const session = new FrameSession(port, {
    delivery({ bytes, leaseStart }) {
      if (!open) {
        writer.open(++settles);
        open = true;
      }
      writer.completed(bytes, leaseStart, undefined);
    },
    settled: () => ended(unacknowledged.shift() ?? 0),
    after() {
      if (!open) return;
      open = false;
      unacknowledged.push(writer.count);
      session.write(writer.take());
    },
  });
  return session;
}

/** The same bytes in the same loop to the bare peer: who reads nothing, and writes what it was given. */
export async function bareLoad(load: BatchLoad): Promise<Done> {
  const { port, batch, outstanding } = load;
  const meter = new Meter(load);
  const template = templatesOf(load)[0]!;
  const settlement = settleFrame(batch);
  let sent = 0;
  let completed = 0;
  const pump = (): void => {
    while (!meter.over && sent - completed < outstanding * batch) {
      publisher.write(template.frame(sent / batch + 1, sent));
      sent += batch;
    }
  };
  const deliveryBytes = batch * load.taskBytes;
  const worker = new ByteStream(port, MOVE, (frame) => {
    if (frame.length > deliveryBytes) worker.write(settlement);
    else {
      completed += batch;
      meter.add(batch);
      pump();
    }
  });
  const publisher = new ByteStream(port, MOVE, () => {});
  worker.write(WORKER);
  await new Promise((resolve) => setTimeout(resolve, 200));
  meter.start();
  pump();
  const done = await meter.done;
  worker.close();
  publisher.close();
  return done;
}

/** The same through the SDK: `publishBatch` of plain objects, and `workBatch`. */
export async function sdkLoad(load: BatchLoad): Promise<Done> {
  const { port, mailboxes, batch, outstanding, taskBytes } = load;
  const address = `127.0.0.1:${port}`;
  const [publisher, worker] = await Promise.all([connect({ address }), connect({ address })]);
  const meter = new Meter(load);
  const payload = Buffer.alloc(Math.max(1, taskBytes - SDK_ENVELOPE_BYTES), 'x');
  let sent = 0;
  let completed = 0;
  const pump = (): void => {
    while (!meter.over && sent - completed < outstanding * batch) {
      const to = mailboxes[(sent / batch) % mailboxes.length]!;
      void publisher.publishBatch(Array.from({ length: batch }, () => ({ to, type: 'summarize', payload })));
      sent += batch;
    }
  };
  for (const mailbox of mailboxes) {
    await worker.workBatch(
      mailbox,
      (deliveries, batchWorker) => {
        batchWorker.settleAll(deliveries);
        completed += deliveries.length;
        meter.add(deliveries.length);
        pump();
      },
      { window: 4096 },
    );
  }
  meter.start();
  pump();
  const done = await meter.done;
  await Promise.all([publisher.close(), worker.close()]);
  return done;
}

/** What a task has beside its payload when the SDK has made its id. */
const SDK_ENVELOPE_BYTES = 48;

/** What decides about the bytes of a load. */
export type Shape = Pick<BatchLoad, 'batch' | 'taskBytes' | 'mailboxes' | 'spread' | 'results'>;

/** Batches that come in turn. */
export function templatesOf({ batch, taskBytes, mailboxes, spread, results }: Shape): BatchTemplate[] {
  const shape = (to: readonly string[]): BatchShape => ({
    tasks: batch,
    taskBytes,
    mailboxes: to,
    requester: results ? requesterOf(to[0]!) : '',
  });
  if (spread === 'batch') return mailboxes.map((mailbox) => new BatchTemplate(shape([mailbox])));
  const templates: BatchTemplate[] = [];
  const shared = mailboxes.length < batch ? lcm(mailboxes.length, batch) : mailboxes.length;
  for (let first = 0; first < shared; first += batch) {
    const to = Array.from({ length: batch }, (_, index) => mailboxes[(first + index) % mailboxes.length]!);
    templates.push(new BatchTemplate(shape(to)));
  }
  return templates;
}

function lcm(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a * b) / x;
}

function requesterOf(mailbox: string): string {
  return `asks-${mailbox}`;
}
