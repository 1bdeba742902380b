import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { Crew } from '../support/crew.ts';
import { until } from '../support/inbox.ts';
import { Ledger } from '../support/ledger.ts';
import { SeededRandom } from '../support/random.ts';
import { ServeProcess } from '../support/serve.ts';

/** How often the broker is killed: make chaos MOMENTS=1000. */
const MOMENTS = Number(process.env['MOMENTS'] ?? 100);
const SEED = Number(process.env['SEED'] ?? 7);
const SHARED = 'type:chaos';

const dir = mkdtempSync(join(tmpdir(), 'agenthub-kill-'));
const random = new SeededRandom(SEED);

let broker: ServeProcess;
let crews: readonly Crew[] = [];

afterAll(async () => {
  await broker.end('SIGKILL');
  await Promise.all(crews.map((crew) => crew.close()));
  rmSync(dir, { recursive: true, force: true });
});

/** A broker on the same folder and port as the ones before. */
function serve(port = '0'): ServeProcess {
  return new ServeProcess(
    join(dir, 'data'),
    [
      ...['--grpc-port', port, '--data-sync', 'always', '--data-segment-bytes', '1MiB', '--shards', '4'],
      ...['--delivery-max-attempts', '1000', '--delivery-backoff-initial-ms', '1ms'],
    ],
    // Of the start of a broker most is the compiler.
    { NODE_COMPILE_CACHE: join(dir, 'compiled') },
  );
}

test(
  `a broker that is killed ${MOMENTS} times under load loses nothing that it has acknowledged (SEED=${SEED})`,
  async () => {
    const ledger = new Ledger((lane) => !lane.startsWith(SHARED));
    broker = await serve().ready();
    const port = broker.grpc.split(':')[1]!;
    crews = await Promise.all(
      ['ann', 'ben'].map((name) => Crew.start(name, broker.grpc, SHARED, ledger, random)),
    );
    for (let moment = 0; moment < MOMENTS; moment++) {
      // Now and then while it starts or recovers, mostly when all are back at work.
      const starting = random.chance(0.2);
      if (!starting) await until(() => crews.every(({ connected }) => connected));
      await new Promise((resolve) => setTimeout(resolve, random.below(starting ? 1000 : 150)));
      await broker.end('SIGKILL');
      broker = serve(port);
      if (ledger.faults.length > 0) break;
    }
    expect(ledger.faults).toEqual([]);

    await broker.ready();
    await Promise.all(crews.map((crew) => crew.rest()));
    const deadline = Date.now() + 60_000;
    await until(() => ledger.missing().length === 0 || Date.now() > deadline);
    expect(ledger.missing()).toEqual([]);
    expect(ledger.faults).toEqual([]);
    expect(ledger.ended).toBe(ledger.acknowledged);
    // Else nothing was at stake.
    expect(ledger.acknowledged).toBeGreaterThan(MOMENTS * 20);
    expect(ledger.redelivered).toBeGreaterThan(0);
    expect((await broker.end('SIGTERM')).code).toBe(0);
  },
  60_000 + MOMENTS * 10_000,
);
