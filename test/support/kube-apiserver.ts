import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CERTIFICATE, KEY } from './certificate.ts';
import { freePort } from './nats-server.ts';

const TOOLS = `${import.meta.dirname}/../../.tools/bin`;
const START_MS = 60_000;

/** Who may log in, and as what. */
export const TOKENS = {
  /** May do everything. */
  admin: 'admin-token',
  /** May do nothing that RBAC has not given it. */
  nobody: 'nobody-token',
};

/**
 * A real Kubernetes API server with its etcd, on loopback, without nodes and controllers: nothing makes
 * pods of workloads, and nothing collects garbage.
 */
export class KubeApiServer {
  /** `https://127.0.0.1:…`; its certificate is that of certificate.ts. */
  readonly url: string;
  readonly #dir: string;
  readonly #port: number;
  readonly #etcdUrl: string;
  readonly #etcdPeerUrl: string;
  #etcd: ChildProcess | undefined;
  #server: ChildProcess | undefined;

  static async start(): Promise<KubeApiServer> {
    for (const tool of ['etcd', 'kube-apiserver']) {
      if (!existsSync(join(TOOLS, tool))) {
        throw new Error(`there is no ${tool} to test with; build it: make kube-apiserver`);
      }
    }
    const [port, etcd, peer] = await Promise.all([freePort(), freePort(), freePort()]);
    const server = new KubeApiServer(port, etcd, peer);
    try {
      server.#startEtcd();
      await server.restart();
    } catch (error) {
      await server.remove();
      throw error;
    }
    return server;
  }

  private constructor(port: number, etcd: number, peer: number) {
    this.#port = port;
    this.url = `https://127.0.0.1:${port}`;
    this.#etcdUrl = `http://127.0.0.1:${etcd}`;
    this.#etcdPeerUrl = `http://127.0.0.1:${peer}`;
    this.#dir = mkdtempSync(join(tmpdir(), 'agenthub-kube-'));
    const file = (name: string, text: string): void => writeFileSync(join(this.#dir, name), text);
    mkdirSync(join(this.#dir, 'log'));
    file('tls.key', KEY);
    file('tls.crt', CERTIFICATE);
    file('tokens.csv', `${TOKENS.admin},admin,admin,"system:masters"\n${TOKENS.nobody},nobody,nobody\n`);
  }

  /** A kubeconfig file for one of {@link TOKENS}; through `server`, as a fault proxy, if given. */
  kubeconfig(token: string = TOKENS.admin, server: string = this.url): string {
    const path = join(this.#dir, `${token}-${new URL(server).port}.conf`);
    const secure = server.startsWith('https:');
    const cluster = {
      server,
      ...(secure
        ? { 'certificate-authority': join(this.#dir, 'tls.crt') }
        : { 'insecure-skip-tls-verify': true }),
    };
    writeFileSync(
      path,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'test',
        clusters: [{ name: 'test', cluster }],
        users: [{ name: 'test', user: { token } }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace: 'default' } }],
      }),
    );
    return path;
  }

  /** A folder like the one that a pod finds its service account in. */
  serviceAccount(token: string): string {
    const dir = join(this.#dir, 'serviceaccount');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'token'), token);
    writeFileSync(join(dir, 'ca.crt'), CERTIFICATE);
    return dir;
  }

  /** Kills the API server as a crash does; etcd goes on. */
  async kill(): Promise<void> {
    await end(this.#server);
    this.#server = undefined;
  }

  /** Starts the API server, again if need be, at the same port; ready once it says so. */
  async restart(): Promise<void> {
    await this.kill();
    const at = (name: string): string => join(this.#dir, name);
    const server = this.#spawn('kube-apiserver', [
      `--etcd-servers=${this.#etcdUrl}`,
      `--secure-port=${this.#port}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      '--endpoint-reconciler-type=none',
      '--service-cluster-ip-range=10.96.0.0/16',
      `--tls-cert-file=${at('tls.crt')}`,
      `--tls-private-key-file=${at('tls.key')}`,
      `--token-auth-file=${at('tokens.csv')}`,
      '--authorization-mode=RBAC',
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${at('tls.crt')}`,
      `--service-account-signing-key-file=${at('tls.key')}`,
      // Nothing makes service accounts here, and pods would need one.
      '--disable-admission-plugins=ServiceAccount',
      '--allow-privileged=true',
      '--profiling=false',
    ]);
    this.#server = server;
    const deadline = performance.now() + START_MS;
    while (!(await this.#ready())) {
      if (server.exitCode !== null || server.signalCode !== null || performance.now() > deadline) {
        throw new Error(
          `kube-apiserver does not start:\n${this.#logOf('etcd')}\n${this.#logOf('kube-apiserver')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends both, and removes all they have written. */
  async remove(): Promise<void> {
    await Promise.all([this.kill(), end(this.#etcd)]);
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #startEtcd(): void {
    this.#etcd = this.#spawn('etcd', [
      `--data-dir=${join(this.#dir, 'etcd')}`,
      '--unsafe-no-fsync',
      `--listen-client-urls=${this.#etcdUrl}`,
      `--advertise-client-urls=${this.#etcdUrl}`,
      `--listen-peer-urls=${this.#etcdPeerUrl}`,
      `--initial-advertise-peer-urls=${this.#etcdPeerUrl}`,
      `--initial-cluster=default=${this.#etcdPeerUrl}`,
      '--log-level=warn',
    ]);
  }

  #spawn(tool: string, args: string[]): ChildProcess {
    const log = openSync(join(this.#dir, 'log', tool), 'a');
    const child = spawn(join(TOOLS, tool), args, { stdio: ['ignore', log, log], cwd: this.#dir });
    // A test that is killed leaves nothing running.
    process.once('exit', () => child.kill('SIGKILL'));
    return child;
  }

  #ready(): Promise<boolean> {
    return new Promise((resolve) => {
      const headers = { authorization: `Bearer ${TOKENS.admin}` };
      https
        .get(`${this.url}/readyz`, { ca: CERTIFICATE, headers, agent: false, timeout: 5000 }, (response) => {
          response.resume();
          resolve(response.statusCode === 200);
        })
        .on('error', () => resolve(false));
    });
  }

  #logOf(tool: string): string {
    return readFileSync(join(this.#dir, 'log', tool), 'utf8')
      .split('\n')
      .slice(-15)
      .join('\n');
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
