/**
 * Three NATS servers and three brokers on this machine, as one cluster to play with: `make cluster`. It runs until
 * Ctrl-C. What it keeps is in `agenthub-data/cluster`.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import pc from 'picocolors';

const ROOT = resolve(import.meta.dirname, '..');
const NATS = join(ROOT, '.tools/bin/nats-server');
const MAIN = join(ROOT, 'src/cli/main.ts');
const DATA = resolve('agenthub-data/cluster');
const SIZE = [0, 1, 2] as const;

const nats = (index: number): string => `127.0.0.1:${4222 + index}`;
const route = (index: number): string => `127.0.0.1:${6222 + index}`;
const grpc = (index: number): number => 50_051 + index;
const http = (index: number): number => 8081 + index;

const children = new Map<string, ChildProcess>();
/** A program that was killed starts again after this, in milliseconds. */
const AGAIN_MS = 5000;

let stopping = false;
let ready = false;

/** Runs a program until the end, again if somebody kills it. If it does not even start, that ends all. */
function run(name: string, command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  children.set(name, child);
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-2000);
  });
  child.once('error', (error) => (said += error.message));
  child.once('exit', () => {
    children.delete(name);
    if (stopping) return;
    if (!ready) return void stop(1, `${name} has ended: ${said.trim().split('\n').at(-1) ?? ''}`);
    process.stderr.write(`${name} has ended; it starts again in ${AGAIN_MS / 1000} s\n`);
    setTimeout(() => stopping || run(name, command, args), AGAIN_MS);
  });
  return child;
}

/** Stops the brokers in good order, then the servers under them. */
async function stop(code: number, why: string): Promise<never> {
  if (stopping) {
    for (const child of children.values()) child.kill('SIGKILL');
    return process.exit(1);
  }
  stopping = true;
  process.stderr.write(`\n${why}\n`);
  for (const kind of ['broker', 'nats']) {
    const ending = [...children].filter(([name]) => name.startsWith(kind)).map(([, child]) => child);
    const ends = ending.map((child) => once(child, 'exit'));
    for (const child of ending) child.kill('SIGTERM');
    await Promise.all(ends);
  }
  return process.exit(code);
}

function startNats(index: number): void {
  const dir = join(DATA, `nats-${index + 1}`);
  mkdirSync(dir, { recursive: true });
  const routes = SIZE.map((other) => `"nats://${route(other)}"`).join(', ');
  writeFileSync(
    join(dir, 'nats.conf'),
    `listen: "${nats(index)}"
server_name: nats-${index + 1}
max_payload: 8MB
jetstream { store_dir: "${dir}", sync_interval: 1s }
cluster { name: agenthub, listen: "${route(index)}", routes: [${routes}] }
`,
  );
  run(`nats-${index + 1}`, NATS, ['-c', join(dir, 'nats.conf')]);
}

/** Resolves when the broker says that it serves. */
async function startBroker(index: number): Promise<void> {
  const address = `127.0.0.1:${grpc(index)}`;
  const child = run(`broker-${index + 1}`, process.execPath, [
    ...[MAIN, 'serve', '-o', 'json', '--service-name', `broker-${index + 1}`],
    ...['--grpc-port', String(grpc(index)), '--http-port', String(http(index)), '--cluster-address', address],
    ...['--data-log', 'jetstream', '--nats-servers', SIZE.map(nats).join(','), '--nats-replicas', '3'],
  ]);
  await once(child.stdout!, 'data');
}

process.on('SIGINT', () => void stop(0, 'Stopping; once more to be quick.'));
process.on('SIGTERM', () => void stop(0, 'Stopping.'));
process.stderr.write(
  'Starting three NATS servers and three brokers; the first time they elect leaders for a while.\n',
);
for (const index of SIZE) startNats(index);
await Promise.all(SIZE.map(startBroker));
ready = true;

const cli = 'node_modules/.bin/node src/cli/main.ts';
process.stdout.write(`
${pc.bold('A cluster of three brokers')} on three NATS servers that keep everything three times.

  broker-1  localhost:${grpc(0)}  http://localhost:${http(0)}/metrics   pid ${children.get('broker-1')?.pid}
  broker-2  localhost:${grpc(1)}  http://localhost:${http(1)}/metrics   pid ${children.get('broker-2')?.pid}
  broker-3  localhost:${grpc(2)}  http://localhost:${http(2)}/metrics   pid ${children.get('broker-3')?.pid}

In another terminal, in this folder:

  ${pc.cyan(`alias agenthub="${cli}"`)}
  ${pc.cyan('agenthub cluster describe')}                               who is there
  ${pc.cyan('agenthub shards')}                                         who owns which shard
  ${pc.cyan(`agenthub work type:shout --exec 'tr a-z A-Z' &`)}            a worker at broker-1
  ${pc.cyan(`agenthub task publish type:shout hello --wait --broker localhost:${grpc(2)}`)}
                                                          a task at broker-3
  ${pc.cyan(`kill -9 ${children.get('broker-1')?.pid}`)}                                      and ask the others again

Ctrl-C stops everything; tasks stay in ${DATA}.
`);
