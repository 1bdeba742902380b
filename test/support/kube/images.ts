/**
 * The images that a cluster for tests gets, made of files of this machine: no registry is asked. As a
 * program it makes them, if what they are made of has changed; its own file is the lock:
 * `flock images.ts node images.ts`.
 *
 * `agenthub:dev` is what the Dockerfile describes, but for its base, its Node, and types: keep the two in step.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { place, placeProgram, writeImage } from './oci.ts';

const ROOT = join(import.meta.dirname, '../../..');
const BIN = join(ROOT, '.tools/bin');
const KUBE = join(ROOT, '.tools/kube');
/** A folder of containerd, which the nodes of a cluster start with. */
const STORE = join(KUBE, 'store');
const NODE = realpathSync(join(ROOT, 'node_modules/.bin/node'));
const MODULES = join(ROOT, 'node_modules');

/** The image of broker and operator; the operator starts as `node dist/operator/main.js`. */
export const AGENTHUB_IMAGE = 'agenthub:dev';

/** How its containers start: as the Dockerfile says. */
export const AGENTHUB_CONFIG = {
  Entrypoint: ['node', 'dist/cli/main.js'],
  Cmd: ['serve'],
  Env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'NODE_ENV=production', 'AGENTHUB_DATA_DIR=/var/lib/agenthub'],
  User: '65532:65532',
  WorkingDir: '/app',
};

/** The image of the NATS server that the tests use everywhere, built like the official one. */
export const NATS_IMAGE = `nats:${natsVersion()}`;

async function prepareImages(): Promise<void> {
  // One that was killed may have left it.
  const stage = join(KUBE, 'stage');
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });
  try {
    const changed = await Promise.all([writePause(stage), writeNats(stage), writeAgentHub(stage)]);
    if (changed.includes(true) || !existsSync(STORE)) unpack();
  } finally {
    rmSync(stage, { recursive: true });
  }
}

function unpack(): void {
  const archives = ['pause', 'nats', 'agenthub'].map(archive);
  execFileSync(join(import.meta.dirname, 'store.sh'), [STORE, ...archives], { stdio: 'inherit' });
}

/** What holds the namespaces of every pod; containerd is configured with its name. */
function writePause(stage: string): Promise<boolean> {
  return unlessWritten('pause', [join(BIN, 'pause')], async (path) => {
    const layer = join(stage, 'pause');
    place(layer, { '/pause': join(BIN, 'pause') });
    await writeImage(path, 'localhost/pause:1', [layer], { Entrypoint: ['/pause'] });
  });
}

function writeNats(stage: string): Promise<boolean> {
  return unlessWritten('nats', [join(BIN, 'nats-server')], async (path) => {
    const layer = join(stage, 'nats');
    base(layer);
    placeProgram(layer, '/nats-server', join(BIN, 'nats-server'));
    writeFileSync(join(layer, 'nats-server.conf'), 'port: 4222\nmonitor_port: 8222\n');
    await writeImage(path, `docker.io/library/${NATS_IMAGE}`, [layer], {
      Entrypoint: ['/nats-server'],
      Cmd: ['--config', 'nats-server.conf'],
      Env: ['PATH=/bin:/'],
      WorkingDir: '/',
    });
  });
}

function writeAgentHub(stage: string): Promise<boolean> {
  const sources = globSync(['{src,operator}/**/*.ts', 'tsconfig*.json', 'package*.json'], { cwd: ROOT });
  return unlessWritten('agenthub', [NODE, ...sources.map((path) => join(ROOT, path))], async (path) => {
    const node = join(stage, 'node');
    base(node);
    placeProgram(node, '/usr/local/bin/node', NODE);
    const app = join(stage, 'app');
    placeApplication(app);
    await writeImage(path, `docker.io/library/${AGENTHUB_IMAGE}`, [node, app], AGENTHUB_CONFIG);
  });
}

function placeApplication(layer: string): void {
  const dist = join(layer, 'app/dist');
  build('tsconfig.build.json', dist);
  if (existsSync(join(ROOT, 'operator'))) build('tsconfig.operator.json', dist);
  chmodSync(join(dist, 'cli/main.js'), 0o755);
  for (const folder of productionModules()) place(layer, { [join('/app', relative(ROOT, folder))]: folder });
  // Two files out of three, and every node would have to handle them.
  const unread = ['-name', '*.d.ts', '-o', '-name', '*.map', '-o', '-name', '*.md'];
  execFileSync('find', [join(layer, 'app/node_modules'), '-type', 'f', '(', ...unread, ')', '-delete']);
  place(layer, { '/app/package.json': join(ROOT, 'package.json') });
  mkdirSync(join(layer, 'usr/local/bin'), { recursive: true });
  symlinkSync('/app/dist/cli/main.js', join(layer, 'usr/local/bin/agenthub'));
  mkdirSync(join(layer, 'var/lib/agenthub'), { recursive: true });
  chmodSync(join(layer, 'var/lib/agenthub'), 0o777);
}

/** What programs expect to be there, and a shell for `kubectl exec`. */
function base(layer: string): void {
  for (const folder of ['dev', 'etc', 'proc', 'sys', 'tmp', 'usr/bin', 'var'])
    mkdirSync(join(layer, folder), { recursive: true });
  chmodSync(join(layer, 'tmp'), 0o1777);
  writeFileSync(join(layer, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nagenthub:x:65532:65532::/app:/bin/sh\n');
  writeFileSync(join(layer, 'etc/group'), 'root:x:0:\nagenthub:x:65532:\n');
  writeFileSync(join(layer, 'etc/nsswitch.conf'), 'hosts: files dns\n');
  place(layer, { '/bin/busybox': '/bin/busybox' });
  symlinkSync('busybox', join(layer, 'bin/sh'));
  symlinkSync('/bin/busybox', join(layer, 'usr/bin/env'));
}

function build(project: string, outDir: string): void {
  execFileSync(join(MODULES, '.bin/tsc'), ['-p', project, '--outDir', outDir], {
    cwd: ROOT,
    stdio: 'inherit',
  });
}

/** The folders of all packages that are needed at run time, each with what lies below it. */
function productionModules(): string[] {
  const listed = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return listed
    .split('\n')
    .filter((path) => path.startsWith(MODULES) && path.lastIndexOf('/node_modules/') === ROOT.length);
}

function natsVersion(): string {
  const module = readFileSync(join(ROOT, 'tools/nats/go.mod'), 'utf8');
  const version = /github\.com\/nats-io\/nats-server\/v2 v(\S+)/.exec(module)?.[1];
  if (version === undefined) throw new Error('tools/nats/go.mod names no nats-server');
  return version;
}

function archive(name: string): string {
  return join(KUBE, 'images', `${name}.tar`);
}

/** Writes an image, and says so, unless it was written from the same files, as their sizes and times tell. */
async function unlessWritten(
  name: string,
  sources: readonly string[],
  write: (path: string) => Promise<void>,
): Promise<boolean> {
  const path = archive(name);
  const record = `${path}.from`;
  const facts = [...sources, import.meta.filename, join(import.meta.dirname, 'oci.ts')].map((source) => {
    const { size, mtimeMs } = statSync(source);
    return `${source} ${size} ${mtimeMs}\n`;
  });
  const from = facts.join('');
  if (existsSync(path) && existsSync(record) && readFileSync(record, 'utf8') === from) return false;
  rmSync(record, { force: true });
  await write(path);
  writeFileSync(record, from);
  return true;
}

if (import.meta.main) await prepareImages();
