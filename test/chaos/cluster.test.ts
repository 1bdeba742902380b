import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { Crew } from '../support/crew.ts';
import { until } from '../support/inbox.ts';
import { Ledger } from '../support/ledger.ts';
import { NatsServer } from '../support/nats-server.ts';
import { SeededRandom } from '../support/random.ts';
import { ServeProcess } from '../support/serve.ts';

/** How often something happens to a broker: make chaos CLUSTER_MOMENTS=1000. */
const MOMENTS = Number(process.env['CLUSTER_MOMENTS'] ?? 15);
const SEED = Number(process.env['SEED'] ?? 7);
const SHARED = 'type:chaos';
const BROKERS = 3;

const dir = mkdtempSync(join(tmpdir(), 'agenthub-cluster-'));
const random = new SeededRandom(SEED);

let nats: NatsServer | undefined;
const brokers: ServeProcess[] = [];
let crews: readonly Crew[] = [];

afterAll(async () => {
  await Promise.all(brokers.map((broker) => broker.end('SIGKILL')));
  await Promise.all(crews.map((crew) => crew.close()));
  await nats?.remove();
  rmSync(dir, { recursive: true, force: true });
});

function serve(index: number, port = '0'): ServeProcess {
  return new ServeProcess(
    join(dir, `data-${index}`),
    [
      ...['--data-log', 'jetstream', '--nats-servers', nats!.url, '--nats-stream-prefix', 'chaos'],
      ...['--service-name', `b${index}`, '--grpc-port', port, '--shards', '6'],
      ...['--delivery-max-attempts', '1000', '--delivery-backoff-initial-ms', '1ms'],
      ...['--session-grace-ms', '4s', '--log-level', process.env['LOG'] ?? 'warn'],
    ],
    { NODE_COMPILE_CACHE: join(dir, 'compiled') },
  );
}

test(
  `brokers of a cluster that die, stand still and leave ${MOMENTS} times under load lose nothing (SEED=${SEED})`,
  async () => {
    nats = await NatsServer.start();
    // Sessions move from edge to edge and shards from owner to owner: order is that of the shard, not of what is seen.
    const ledger = new Ledger(() => false);
    for (let index = 0; index < BROKERS; index++) brokers.push(serve(index));
    await Promise.all(brokers.map((broker) => broker.ready()));
    const ports = brokers.map(({ grpc }) => grpc.split(':')[1]!);
    crews = await Promise.all(
      brokers.map(({ grpc }, index) => Crew.start(`crew-${index}`, grpc, SHARED, ledger, random)),
    );
    for (let moment = 0; moment < MOMENTS && ledger.faults.length === 0; moment++) {
      await until(() => crews.every(({ connected }) => connected));
      await new Promise((resolve) => setTimeout(resolve, random.below(1500)));
      const index = random.below(BROKERS);
      const broker = brokers[index]!;
      const what = random.below(3);
      if (what === 0) await broker.end('SIGKILL');
      else if (what === 1) await broker.end('SIGTERM');
      else {
        broker.signal('SIGSTOP');
        await new Promise((resolve) => setTimeout(resolve, random.below(6000)));
        broker.signal('SIGCONT');
        continue;
      }
      brokers[index] = serve(index, ports[index]);
      await brokers[index].ready();
    }
    expect(ledger.faults).toEqual([]);

    await Promise.all(crews.map((crew) => crew.rest()));
    const deadline = Date.now() + 60_000;
    await until(() => ledger.missing().length === 0 || Date.now() > deadline);
    expect(ledger.missing()).toEqual([]);
    expect(ledger.faults).toEqual([]);
    expect(ledger.ended).toBe(ledger.acknowledged);
    expect(ledger.acknowledged).toBeGreaterThan(MOMENTS * 20);
    const ended = await Promise.all(brokers.map((broker) => broker.end('SIGTERM')));
    expect(ended.map(({ code }) => code)).toEqual(brokers.map(() => 0));
  },
  60_000 + MOMENTS * 20_000,
);
