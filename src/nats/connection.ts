import { readFileSync } from 'node:fs';
import type { ConnectionOptions, NatsConnection } from 'nats';
import { connect, credsAuthenticator, Events, nkeyAuthenticator } from 'nats';
import { HubError } from '../std/errors.ts';
import { natsFault } from './faults.ts';

/** What a connection to NATS is for. */
export type NatsRole = 'writing' | 'reading' | 'bus' | 'documents';

/** Is told of connections. */
export interface ConnectionRegister {
  add(role: NatsRole, nats: NatsConnection): void;
}

/** Where NATS is, and who the broker is there. */
export interface NatsAccess {
  /** `host:port` or `nats://host:port`; any one of them will do. */
  readonly servers: readonly string[];
  /** File of user credentials (JWT and seed), as `nsc` writes them. */
  readonly credentialsFile?: string | undefined;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string | undefined;
  readonly token?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Whether to insist on TLS; so do the files below. */
  readonly tls?: boolean | undefined;
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Told of every connection that is made. */
  readonly figures?: ConnectionRegister | undefined;
}

/** What a connection says of itself. */
export interface ConnectionEvents {
  lost(): void;
  back(): void;
  /** The server has refused a publish to that subject. */
  denied(subject: string): void;
}

/** A server that is silent for twice this long is given up, in milliseconds. */
const PING_MS = 5000;
const RECONNECT_MS = 200;
const CONNECT_MS = 5000;

/**
 * Connects, and from then on reconnects for ever.
 *
 * @throws HubError `unavailable` (nobody answers), `unauthenticated`, `invalid` (a file can't be read).
 */
export async function connectNats(access: NatsAccess, name: string, role: NatsRole): Promise<NatsConnection> {
  const where = access.servers.join(', ');
  const options = connectionOptions(access, name);
  try {
    const nats = await connect(options);
    access.figures?.add(role, nats);
    return nats;
  } catch (error) {
    throw natsFault(error, `connecting to NATS at ${where}`);
  }
}

/** Tells `events` what becomes of the connection, until it is closed. */
export async function watchConnection(nats: NatsConnection, events: ConnectionEvents): Promise<void> {
  for await (const status of nats.status()) {
    if (status.type === Events.Disconnect) events.lost();
    else if (status.type === Events.Reconnect) events.back();
    else if (status.type === Events.Error && status.permissionContext?.operation === 'publish') {
      events.denied(status.permissionContext.subject);
    }
  }
}

function connectionOptions(access: NatsAccess, name: string): ConnectionOptions {
  const { servers, credentialsFile, nkeyFile, token, user, password } = access;
  const authenticator =
    credentialsFile === undefined
      ? nkeyFile === undefined
        ? undefined
        : nkeyAuthenticator(seedOf(file('nats.nkeyFile', nkeyFile)))
      : credsAuthenticator(file('nats.credentialsFile', credentialsFile));
  const tls = tlsOptions(access);
  return {
    servers: [...servers],
    name,
    timeout: CONNECT_MS,
    pingInterval: PING_MS,
    maxPingOut: 2,
    maxReconnectAttempts: -1,
    // Credentials may be put right while the broker waits.
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: RECONNECT_MS,
    reconnectJitter: RECONNECT_MS,
    ...(authenticator && { authenticator }),
    ...(token !== undefined && { token }),
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(tls && { tls }),
  };
}

function tlsOptions({ tls, caFile, certFile, keyFile }: NatsAccess): ConnectionOptions['tls'] | undefined {
  const files = {
    ...(caFile !== undefined && { ca: text('nats.caFile', caFile) }),
    ...(certFile !== undefined && { cert: text('nats.certFile', certFile) }),
    ...(keyFile !== undefined && { key: text('nats.keyFile', keyFile) }),
  };
  return tls === true || Object.keys(files).length > 0 ? files : undefined;
}

/** The seed in a file that may have comments around it. */
function seedOf(bytes: Uint8Array): Uint8Array {
  const lines = Buffer.from(bytes).toString('utf8').split('\n');
  return Buffer.from(lines.find((line) => line.startsWith('S'))?.trim() ?? '');
}

function text(field: string, path: string): string {
  return file(field, path).toString('utf8');
}

function file(field: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new HubError('invalid', `${field}: ${path} can't be read; name a file that can`, { field, cause });
  }
}
