import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BINARY = `${import.meta.dirname}/../../.tools/bin/nats-server`;

/** How a server differs from the usual one. */
export interface NatsServerOptions {
  /** Default: true. */
  readonly jetstream?: boolean;
  /** Default: `1s`. */
  readonly sync?: 'always' | '1s';
  /** Default: 8 MiB. */
  readonly maxPayload?: number;
  /** The most bytes of its store. Default: 1 GiB. */
  readonly maxStore?: number;
  /** More of the configuration file. */
  readonly more?: string;
}

/** A nats-server of its own on loopback, with a store of its own. */
export class NatsServer {
  readonly url: string;
  private readonly dir: string;
  private readonly head: string;
  private child: ChildProcess | undefined;
  private said = '';

  static async start(options: NatsServerOptions = {}): Promise<NatsServer> {
    const server = new NatsServer(await freePort(), options);
    await server.start();
    return server;
  }

  /** Servers that know each other, and tell nobody. They find a leader for what concerns all of them by and by. */
  static async cluster(count: number, options: NatsServerOptions = {}): Promise<NatsServer[]> {
    const ports = await Promise.all(Array.from({ length: count }, freePort));
    const routes = await Promise.all(Array.from({ length: count }, freePort));
    const servers = ports.map(
      (port, index) =>
        new NatsServer(port, {
          ...options,
          more: `server_name: n${index}
            cluster { name: test, no_advertise: true, listen: "127.0.0.1:${routes[index]}", routes: [${routes
              .map((route) => `"nats://127.0.0.1:${route}"`)
              .join(', ')}] }
            ${options.more ?? ''}`,
        }),
    );
    await Promise.all(servers.map((server) => server.start()));
    return servers;
  }

  private constructor(port: number, options: NatsServerOptions) {
    const {
      jetstream = true,
      sync = '1s',
      maxPayload = 8 * 2 ** 20,
      maxStore = 2 ** 30,
      more = '',
    } = options;
    if (!existsSync(BINARY))
      throw new Error('there is no nats-server to test with; build it: make nats-server');
    this.url = `127.0.0.1:${port}`;
    this.dir = mkdtempSync(join(tmpdir(), 'agenthub-nats-'));
    const store = `jetstream { store_dir: "${this.dir}/store", max_file_store: ${maxStore}, sync_interval: ${sync} }`;
    this.head = `listen: "${this.url}"\nmax_payload: ${maxPayload}\n${jetstream ? store : ''}\n`;
    this.configure(more);
  }

  /** All that it has logged. */
  get log(): string {
    return this.said;
  }

  private configure(more: string): void {
    writeFileSync(join(this.dir, 'nats.conf'), `${this.head}${more}\n`);
  }

  /** Has it read another configuration while it runs; resolves when it has. */
  async reload(more: string): Promise<void> {
    const before = this.said.length;
    this.configure(more);
    this.child?.kill('SIGHUP');
    while (!/Reloaded server configuration|Failed to reload/.test(this.said.slice(before))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const failed = /Failed to reload.*/.exec(this.said.slice(before));
    if (failed) throw new Error(failed[0]);
  }

  /** The process, while it runs. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Starts it, again if need be, on what its store holds; at another port where nobody looks for it. */
  async start(port?: number): Promise<void> {
    const child = spawn(
      BINARY,
      ['-c', join(this.dir, 'nats.conf'), ...(port === undefined ? [] : ['-p', `${port}`])],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.child = child;
    const before = this.said.length;
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk: Buffer) => {
        this.said += chunk.toString();
        if (this.said.includes('Server is ready', before)) resolve();
      });
      child.once('exit', () => reject(new Error(`nats-server has ended: ${this.said.slice(before)}`)));
    });
  }

  /** Kills it as a crash does; what the operating system holds of its store stays. */
  async kill(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (child === undefined) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Remembers what its store holds; it must not run. */
  keepStore(): void {
    rmSync(join(this.dir, 'kept'), { recursive: true, force: true });
    cpSync(join(this.dir, 'store'), join(this.dir, 'kept'), { recursive: true });
  }

  /** Makes its store what it was then, as a loss of power does that comes before a flush. */
  loseSince(): void {
    rmSync(join(this.dir, 'store'), { recursive: true });
    cpSync(join(this.dir, 'kept'), join(this.dir, 'store'), { recursive: true });
  }

  /** Stops it until {@link resume}. Under load its threads run on for a while after the signal. */
  async pause(): Promise<void> {
    const { child } = this;
    child?.kill('SIGSTOP');
    const stat = `/proc/${child?.pid}/stat`;
    do await new Promise((resolve) => setTimeout(resolve, 20));
    while (existsSync(stat) && !readFileSync(stat, 'utf8').includes(') T '));
  }

  resume(): void {
    this.child?.kill('SIGCONT');
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
