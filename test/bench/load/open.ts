import { build } from 'hdr-histogram-js';
import { SettleWriter } from '../../../src/wire/client-batch.ts';
import type { Shape } from './batches.ts';
import { templatesOf } from './batches.ts';
import { numberOf } from './bytes.ts';
import { FrameSession } from './stream.ts';

/** Batches that come at their times, whether or not the broker keeps up. */
export interface OpenLoad extends Shape {
  readonly port: number;
  readonly tasksPerSecond: number;
  readonly warmMs: number;
  readonly measureMs: number;
  readonly first: number;
}

/** Milliseconds from the time at which a task was due to be published. */
export interface Delays {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly most: number;
}

/**
 * Publishes at a fixed rate and measures from the time at which a task was due, not from that at which it was
 * sent: so a stall counts for all that should have been sent meanwhile
 * (https://www.scylladb.com/2021/04/22/on-coordinated-omission/).
 */
export async function openLoad(load: OpenLoad): Promise<{ delivered: Delays; acknowledged: Delays }> {
  const { port, tasksPerSecond, batch, warmMs, measureMs, mailboxes, first } = load;
  const templates = templatesOf(load);
  const delivered = build({ numberOfSignificantValueDigits: 3 });
  const acknowledged = build({ numberOfSignificantValueDigits: 3 });
  const every = (batch / tasksPerSecond) * 1000;
  const batches = Math.ceil((warmMs + measureMs) / every);
  const warm = Math.ceil(warmMs / every);
  let began = Infinity;
  let sent = 0;
  let received = 0;
  const due = (index: number): number => began + index * every;
  const { promise, resolve } = Promise.withResolvers<void>();
  const settle = new SettleWriter();
  let settles = 0;
  let open = false;
  const worker = new FrameSession(port, {
    delivery({ bytes, leaseStart, bodyStart }) {
      const index = Math.floor((numberOf(bytes, bodyStart) - first) / batch);
      if (index >= warm) delivered.recordValue(Math.max(0, (performance.now() - due(index)) * 1000));
      if (!open) settle.open(++settles);
      open = true;
      settle.completed(bytes, leaseStart, undefined);
      received++;
    },
    after() {
      if (open) worker.write(settle.take());
      open = false;
      if (received >= batches * batch) resolve();
    },
  });
  const publisher = new FrameSession(port, {
    published(number) {
      if (number > warm) acknowledged.recordValue(Math.max(0, (performance.now() - due(number - 1)) * 1000));
    },
  });
  await worker.open(mailboxes);
  await publisher.open([]);
  began = performance.now();
  const pump = (): void => {
    const now = performance.now();
    while (sent < batches && due(sent) <= now) {
      publisher.write(templates[sent % templates.length]!.frame(sent + 1, first + sent * batch));
      sent++;
    }
    if (sent < batches) setTimeout(pump, Math.max(0, due(sent) - performance.now()));
  };
  pump();
  await promise;
  worker.close();
  publisher.close();
  return { delivered: delaysOf(delivered), acknowledged: delaysOf(acknowledged) };
}

function delaysOf(histogram: ReturnType<typeof build>): Delays {
  const at = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000;
  return {
    count: histogram.totalCount,
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    most: histogram.maxValue / 1000,
  };
}
