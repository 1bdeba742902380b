import { existsSync, readFileSync } from 'node:fs';
import type https from 'node:https';
import type { Clock } from '../../src/std/clock.ts';
import { KubeError } from './errors.ts';

/** Where the API server is, and who asks. */
export interface CredentialsSource {
  /** A kubeconfig file. Default: `KUBECONFIG`, else the service account of the pod, else ~/.kube/config. */
  readonly file?: string;
  /** A context of the kubeconfig. Default: its current one. */
  readonly context?: string;
  /** The environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where the service account of the pod is. Default: where Kubernetes puts it. */
  readonly serviceAccountDir?: string;
}

/** What requests to the API server carry. */
export interface Credentials {
  /** Where the API server is. */
  readonly server: URL;
  /** Adds certificates and headers. May read files and run programs, so it may fail. */
  addTo(request: https.RequestOptions): Promise<void>;
  /** Whether {@link addTo} sets an agent that has to be used, because it goes through a proxy. */
  readonly proxied: boolean;
}

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
/** How long files are believed. The kubelet writes tokens anew long before they expire. */
const REREAD_MS = 60_000;

/**
 * Finds out how to log in.
 *
 * @throws KubeError `invalid`: there is no kubeconfig, or it can't be used.
 */
export async function findCredentials(source: CredentialsSource, clock: Clock): Promise<Credentials> {
  const { file = source.env['KUBECONFIG'], context, env, serviceAccountDir = SERVICE_ACCOUNT_DIR } = source;
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'] ?? '443';
  if ((file === undefined || file === '') && host !== undefined && existsSync(`${serviceAccountDir}/token`)) {
    return new ServiceAccount(host, port, serviceAccountDir, clock);
  }
  return await fromKubeconfig(file, context);
}

/** The service account of the pod that we are in. */
class ServiceAccount implements Credentials {
  readonly server: URL;
  readonly proxied = false;
  readonly #dir: string;
  readonly #clock: Clock;
  #read: { readonly at: number; readonly ca: Buffer; readonly token: string } | undefined;

  constructor(host: string, port: string, dir: string, clock: Clock) {
    this.server = new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`);
    this.#dir = dir;
    this.#clock = clock;
  }

  addTo(request: https.RequestOptions): Promise<void> {
    const now = this.#clock.now();
    if (this.#read === undefined || Math.abs(now - this.#read.at) >= REREAD_MS) {
      const token = readFileSync(`${this.#dir}/token`, 'utf8').trim();
      this.#read = { at: now, ca: readFileSync(`${this.#dir}/ca.crt`), token };
    }
    request.ca = this.#read.ca;
    request.headers = { ...(request.headers as object), authorization: `Bearer ${this.#read.token}` };
    return Promise.resolve();
  }
}

/**
 * All the other ways to log in, by @kubernetes/client-node. It is loaded only now, because it takes a second
 * and 100 MB, and an operator in its pod does not need it. Its clients are not used at all: their patches
 * default to JSON patch, and read-then-replace drops the fields they don't know.
 */
async function fromKubeconfig(file: string | undefined, context: string | undefined): Promise<Credentials> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    if (file === undefined || file === '') config.loadFromDefault();
    else config.loadFromFile(file);
  } catch (error) {
    throw new KubeError('invalid', `can't read the kubeconfig: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      throw new KubeError('invalid', `the kubeconfig has no context ${context}`);
    }
    config.setCurrentContext(context);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null)
    throw new KubeError('invalid', 'the kubeconfig has no current context, or it names no cluster');
  return {
    server: new URL(cluster.server),
    proxied: cluster.proxyUrl !== undefined,
    addTo: (request) => config.applyToHTTPSOptions(request),
  };
}
