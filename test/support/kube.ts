import type { ChildProcess } from 'node:child_process';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Target } from './kube/forwarder.ts';

const SCRIPT = join(import.meta.dirname, 'kube/kube.sh');
const FORWARDER = join(import.meta.dirname, 'kube/forwarder.ts');
const IMAGES = join(import.meta.dirname, 'kube/images.ts');
const RUNS = join(import.meta.dirname, '../../.tools/kube/run');
const API_SERVER: Target = { host: '10.99.0.1', port: 6443 };

/** How a cluster differs from the usual one. */
export interface KubeOptions {
  /** From 1 to 9; the first one, which also has the control plane, can't fail. Default: 1. */
  readonly nodes?: number;
}

/** What a command in the cluster gets. */
export interface ExecOptions {
  readonly stdin?: string;
}

let started = 0;

/**
 * A real Kubernetes of its own, see `make kube-up`. It has the images {@link AGENTHUB_IMAGE} and
 * {@link NATS_IMAGE}, made of the code as it is now. It ends with this process at the latest.
 */
export class KubeCluster {
  /** A kubeconfig of an administrator, for clients in this process. */
  readonly kubeconfig: string;
  private readonly name: string;
  private readonly runner: ChildProcess;
  private readonly forwarder: ChildProcess;

  /** Starts a cluster, with every node ready; takes some seconds. */
  static async up({ nodes = 1 }: KubeOptions = {}): Promise<KubeCluster> {
    await prepareImages();
    const name = `test-${process.pid}-${started++}`;
    const dir = join(RUNS, name);
    // Whatever happens to this process: when its end of the pipe is closed, the cluster ends.
    const runner = spawn(SCRIPT, ['run', name, `${nodes}`], { detached: true, stdio: 'pipe' });
    await readiness(runner, join(dir, 'log/cluster'));
    const pid = readFileSync(join(dir, 'pid'), 'utf8');
    const enter = ['--target', pid, '--net', '--', process.execPath, FORWARDER];
    const forwarder = spawn('nsenter', enter, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const cluster = new KubeCluster(name, runner, forwarder);
    const inside = readFileSync(join(dir, 'admin.conf'), 'utf8');
    const port = await cluster.reach(API_SERVER.host, API_SERVER.port);
    writeFileSync(
      cluster.kubeconfig,
      inside.replace(`${API_SERVER.host}:${API_SERVER.port}`, `127.0.0.1:${port}`),
    );
    return cluster;
  }

  private constructor(name: string, runner: ChildProcess, forwarder: ChildProcess) {
    this.name = name;
    this.runner = runner;
    this.forwarder = forwarder;
    this.kubeconfig = join(RUNS, name, 'outside.conf');
  }

  /**
   * Runs a command in the namespaces of the cluster, where its addresses and its tools (kubectl, helm)
   * can be reached, and gives its output. Rejects, with what it said, if it fails.
   */
  exec(command: string, args: readonly string[], { stdin = '' }: ExecOptions = {}): Promise<string> {
    return run(['exec', this.name, command, ...args], stdin);
  }

  /** Starts a command there that goes on; what it says is on its streams. */
  spawn(command: string, args: readonly string[]): ChildProcess {
    return spawn(SCRIPT, ['exec', this.name, command, ...args], { stdio: 'pipe' });
  }

  /** `kubectl`, as administrator. */
  kubectl(...args: string[]): Promise<string> {
    return this.exec('kubectl', args);
  }

  /** Applies documents, YAML or JSON, as `kubectl apply` does. */
  apply(documents: string, namespace = 'default'): Promise<string> {
    return this.exec('kubectl', ['apply', '--namespace', namespace, '--filename', '-'], { stdin: documents });
  }

  /** The node `node<n>`, to do it harm; not the first. */
  node(n: number): KubeNode {
    return new KubeNode(this.name, n);
  }

  /**
   * A port on 127.0.0.1 whose connections go to a port of a Service, each to where the Service then
   * sends it. The Service must have an address; it keeps it as long as it exists.
   */
  async forward(service: string, port: number, namespace = 'default'): Promise<number> {
    const path = 'jsonpath={.spec.clusterIP}';
    const address = await this.kubectl('get', 'service', service, '--namespace', namespace, '--output', path);
    if (address === 'None') throw new Error(`${service} is headless: reach() one of its pods`);
    return this.reach(address, port);
  }

  /** A port on 127.0.0.1 whose connections go to an address in the cluster, as that of a pod. */
  async reach(host: string, port: number): Promise<number> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port: local } = server.address() as AddressInfo;
    const target: Target = { host, port };
    const taken = once(this.forwarder, 'message');
    this.forwarder.send(target, server);
    await taken;
    // It goes on listening: the forwarder has it, too.
    server.close();
    return local;
  }

  /** Ends it, and leaves nothing. */
  async down(): Promise<void> {
    const ended = [once(this.runner, 'exit'), once(this.forwarder, 'exit')];
    this.forwarder.disconnect();
    await run(['down', this.name]);
    await Promise.all(ended);
  }
}

/** A node that can fail. Its pods live and die with it. */
class KubeNode {
  private readonly cluster: string;
  private readonly n: number;

  constructor(cluster: string, n: number) {
    this.cluster = cluster;
    this.n = n;
  }

  /** Takes its power: all that runs there is killed at once. */
  off(): Promise<string> {
    return this.tell('off');
  }

  /** Gives its power back; it starts with the disk it had. */
  on(): Promise<string> {
    return this.tell('on');
  }

  /** Pulls its network cable: all that runs there goes on, alone. */
  cut(): Promise<string> {
    return this.tell('cut');
  }

  heal(): Promise<string> {
    return this.tell('heal');
  }

  private tell(verb: string): Promise<string> {
    return run([verb, this.cluster, `${this.n}`]);
  }
}

/** As a process of its own: one at a time, whoever wants them too; the file is also the lock. */
async function prepareImages(): Promise<void> {
  await promisify(execFile)('flock', [IMAGES, process.execPath, IMAGES]);
}

function run(args: readonly string[], stdin = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(SCRIPT, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${args.join(' ')}: ${stderr || error.message}`, { cause: error }));
    });
    // A command that wants no input may be gone already.
    child.stdin?.on('error', () => undefined).end(stdin);
  });
}

/** Resolves when a cluster says that it is ready; rejects, with what it said, if it ends before. */
function readiness(runner: ChildProcess, log: string): Promise<void> {
  let said = '';
  return new Promise((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      said += chunk.toString();
      if (said.includes('nodes are ready')) resolve();
    };
    runner.stdout?.on('data', hear);
    runner.stderr?.on('data', hear);
    runner.once('error', reject);
    runner.once('exit', () => reject(new Error(`the cluster did not start: ${said}; see ${log}`)));
  });
}
