import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { median, quantile } from '../figures.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';

const TASK_BYTES = 150;
/** About what one such task takes in the log, its record's and its segment's headers included. */
const RECORD_BYTES = 256;

const TEXT = `
One task of ${TASK_BYTES} bytes at a time: from the write of the publish frame to the moment that the worker, which
lives in the same process as the publisher, has its delivery. It is then completed, and when that is acknowledged
the next one follows. With the file log a task is delivered only after it was flushed to the device, so a write of
${RECORD_BYTES} bytes with fdatasync, one after the other in the same folder, stands beside it: blocking, which is
the device and the file system alone; and through Node's thread pool, as a program must do it that goes on serving.
*Bare grpc-js* is the same way through a peer that does nothing: a message to it on one stream, and one from it on
another. All take turns; a figure is the median of the turns.
`;

/** How long one task takes from its publisher to its worker. */
export async function latency(rig: Rig): Promise<Report> {
  const [turns, warm, count] = rig.quick ? [1, 200, 500] : [5, 5000, 5000];
  const samples = new Map<string, number[][]>();
  const note = (name: string, values: number[]): void => {
    samples.set(name, [...(samples.get(name) ?? []), values]);
  };
  for (let turn = 1; turn <= turns; turn++) {
    rig.tell(`turn ${turn} of ${turns}: the device`);
    await rig.load(async (load) => {
      const folder = mkdtempSync(join(rig.folder, 'flush-'));
      const { blocking, pooled } = await load.ask('flushLoad', { folder, bytes: RECORD_BYTES, count });
      rmSync(folder, { recursive: true });
      note('write and fdatasync, blocking', blocking);
      note('write and fdatasync, thread pool', pooled);
    });
    rig.tell(`turn ${turn} of ${turns}: bare grpc-js`);
    await rig.bare((peer) =>
      rig.load(async (load) => {
        const port = await peer.ask('start', { delivery: Buffer.alloc(TASK_BYTES, 1), ack: Buffer.alloc(8) });
        note('bare grpc-js', await load.ask('barePingLoad', { port, taskBytes: TASK_BYTES, warm, count }));
      }),
    );
    for (const log of ['memory', 'file']) {
      rig.tell(`turn ${turn} of ${turns}: ${log} log`);
      await rig.broker({ 'data-log': log }, ({ port }) =>
        rig.load(async (load) => {
          note(`${log} log`, await load.ask('pingLoad', { port, taskBytes: TASK_BYTES, warm, count }));
        }),
      );
    }
  }
  const of = (name: string, q: number): number =>
    median((samples.get(name) ?? []).map((turn) => quantile(turn, q)));
  const memory = of('memory log', 0.5);
  const file = of('file log', 0.5);
  const device = of('write and fdatasync, blocking', 0.5);
  return {
    text: TEXT,
    targets: [
      {
        measure: 'latency, 1 in flight, publish → delivered, memory log',
        reach: 'p50 ≤ 0.25 ms',
        got: `${memory.toFixed(3)} ms`,
        reached: memory <= 0.25,
      },
      {
        measure: 'latency, 1 in flight, publish → delivered, file log',
        reach: 'p50 ≤ device fsync + 0.3 ms',
        got: `${file.toFixed(3)} ms = ${device.toFixed(3)} + ${(file - device).toFixed(3)} ms`,
        reached: file <= device + 0.3,
      },
    ],
    tables: [
      {
        title: 'Milliseconds',
        columns: ['', 'p50', 'p90', 'p99', 'p99.9'],
        rows: [...samples.keys()].map((name) => [
          name,
          ...[0.5, 0.9, 0.99, 0.999].map((q) => of(name, q).toFixed(3)),
        ]),
      },
    ],
    charts: [],
    raw: Object.fromEntries(
      [...samples].map(([name, all]) => [
        name,
        all.map((turn) => ({ p50: quantile(turn, 0.5), p99: quantile(turn, 0.99), count: turn.length })),
      ]),
    ),
  };
}
