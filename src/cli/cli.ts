import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Hub, TlsOptions } from '../client/index.ts';
import type { LoadedConfig } from '../config/load.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Target } from './caller.ts';
import type { Breaker } from './bench/breaker.ts';
import { Caller } from './caller.ts';
import { createLogger } from './logger.ts';
import { Output } from './output.ts';
import type { Terminal } from './terminal.ts';

/** The options that every command takes. */
export interface GlobalFlags {
  readonly output: 'table' | 'json';
  readonly config?: string;
  readonly broker?: string;
  readonly token?: string;
  readonly namespace?: string;
  readonly tls?: boolean;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly serverName?: string;
  readonly debug?: boolean;
}

/** The parts that commands are made with. */
export class Cli {
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly version: string;

  constructor(terminal: Terminal, clock: Clock, version: string) {
    this.terminal = terminal;
    this.clock = clock;
    this.version = version;
  }

  /** Where a command writes what it has found. */
  output(command: Command): Output {
    return new Output(this.terminal.stdout, globalFlags(command).output === 'json');
  }

  /** The configuration, of which `flags` are given beside the global ones. */
  load(command: Command, flags: Readonly<Record<string, unknown>> = {}): LoadedConfig {
    const {
      config: file,
      broker,
      token,
      namespace,
      tls,
      caFile,
      certFile,
      keyFile,
      serverName,
    } = globalFlags(command);
    const client = {
      clientToken: token,
      clientNamespace: namespace,
      clientTls: tls,
      clientCaFile: caFile,
      clientCertFile: certFile,
      clientKeyFile: keyFile,
      clientServerName: serverName,
      ...addressFlags(broker),
    };
    return loadConfig({ file, env: this.terminal.env, flags: { ...client, ...flags } });
  }

  /** Opens a session with the broker that the configuration names: to publish, and to work. */
  async connect(command: Command, agent = '', { through }: { readonly through?: string } = {}): Promise<Hub> {
    const { address, token, namespace, tls } = this.target(command);
    // Loaded here, as half of the commands do without it.
    const { connect } = await import('../client/index.ts');
    return connect({
      address: through ?? address,
      agent,
      client: `agenthub-cli/${this.version}`,
      connectTimeoutMs: CONNECT_MS,
      ...(token === undefined ? {} : { token }),
      ...(namespace === undefined ? {} : { namespace }),
      ...(tls === undefined ? {} : { tls: through === undefined ? tls : named(tls, address) }),
      ...(globalFlags(command).debug ? { logger: this.debugLogger() } : {}),
    });
  }

  /** Calls the same broker without a session: to look, and to administer. */
  caller(command: Command): Caller {
    return new Caller(this.target(command), this.clock);
  }

  /** Stands between sessions and that broker, to break their connections. */
  async breaker(command: Command): Promise<Breaker> {
    const { host, port } = this.load(command).config.client;
    const { Breaker: Loaded } = await import('./bench/breaker.ts');
    return Loaded.start(host, port);
  }

  private target(command: Command): Target {
    const { client } = this.load(command).config;
    const { host, port, token, namespace } = client;
    const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    return { address, token, namespace, tls: tlsOf(client) };
  }

  private debugLogger(): Logger {
    const log = { level: 'debug', format: 'auto' } as const;
    return createLogger({ log, service: { environment: 'cli' } }, this.terminal.stderr);
  }
}

/** A person waits: a broker that runs answers much sooner. */
const CONNECT_MS = 3_000;

/** The global options as they were given to a command or one above it. */
export function globalFlags(command: Command): GlobalFlags {
  return command.optsWithGlobals<GlobalFlags>();
}

/** `host`, `host:port`, `:port`, `[::1]:port`. */
function addressFlags(address: string | undefined): { clientHost?: string; clientPort?: string } {
  if (address === undefined) return {};
  const match = /^(?:\[(?<v6>[^\]]+)\]|(?<host>[^:]*))(?::(?<port>\d{1,5}))?$/.exec(address)?.groups;
  if (match === undefined) {
    const message = `--broker must be a host and a port, such as localhost:50051, not ${address}`;
    throw new HubError('invalid', message, { field: '--broker' });
  }
  const host = match['v6'] ?? match['host'];
  const { port } = match;
  return { ...(host ? { clientHost: host } : {}), ...(port ? { clientPort: port } : {}) };
}

/** Certificates are of the broker, wherever the connection goes. */
function named(tls: TlsOptions, address: string): TlsOptions {
  return { ...tls, serverName: tls.serverName ?? address.replace(/:\d+$/, '') };
}

function tlsOf({ tls, caFile, certFile, keyFile, serverName }: Config['client']): TlsOptions | undefined {
  const options = {
    ...(caFile === undefined ? {} : { ca: readPem(caFile, 'the authorities', '--ca-file') }),
    ...(certFile === undefined ? {} : { cert: readPem(certFile, 'the certificate', '--cert-file') }),
    ...(keyFile === undefined ? {} : { key: readPem(keyFile, 'the private key', '--key-file') }),
    ...(serverName === undefined ? {} : { serverName }),
  };
  return tls || Object.keys(options).length > 0 ? options : undefined;
}

function readPem(path: string, what: string, field: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new HubError('invalid', `${what} in ${path} can't be read: ${String(error)}`, {
      field,
      cause: error,
    });
  }
}
