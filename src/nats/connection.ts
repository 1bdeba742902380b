import { readFileSync } from 'node:fs';
import type { ConnectionOptions, NatsConnection } from 'nats';
import { Events } from 'nats';
import type { ShownToNats } from './credentials.ts';
import { NatsCredentials, textOf } from './credentials.ts';
import { natsFault } from './faults.ts';

/** What a connection to NATS is for. */
export type NatsRole = 'writing' | 'reading' | 'bus' | 'documents';

/** Is told of connections. */
export interface ConnectionRegister {
  add(role: NatsRole, nats: NatsConnection): void;
}

/** Where NATS is, and who the broker is there. */
export interface NatsAccess extends ShownToNats {
  /** `host:port` or `nats://host:port`; any one of them will do. */
  readonly servers: readonly string[];
  /** Begins the names of everything that is this cluster's, its inboxes included. */
  readonly prefix: string;
  /** What is shown to NATS, for all connections of a broker; absent: what the members here say, once. */
  readonly credentials?: NatsCredentials | undefined;
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
  const credentials = access.credentials ?? new NatsCredentials(access);
  try {
    const nats = await credentials.connect(options);
    access.figures?.add(role, nats);
    return nats;
  } catch (error) {
    throw natsFault(error, `connecting to NATS at ${where}`);
  }
}

/** What the inboxes of the brokers of a cluster begin with: those of others in the account are not theirs to hear. */
export function inboxOf(prefix: string): string {
  return `_INBOX.${prefix}`;
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
  const { servers, prefix } = access;
  const tls = tlsOptions(access);
  return {
    servers: [...servers],
    name,
    inboxPrefix: inboxOf(prefix),
    timeout: CONNECT_MS,
    pingInterval: PING_MS,
    maxPingOut: 2,
    maxReconnectAttempts: -1,
    // Credentials may be put right while the broker waits.
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: RECONNECT_MS,
    reconnectJitter: RECONNECT_MS,
    ...(tls && { tls }),
  };
}

/** They are named, not read, so that each connection uses what they say by then; they must be there. */
function tlsOptions({ tls, caFile, certFile, keyFile }: NatsAccess): ConnectionOptions['tls'] | undefined {
  const files = Object.entries({ caFile, certFile, keyFile }).flatMap(([field, path]) => {
    if (path === undefined) return [];
    textOf(field, path, readFileSync);
    return [[field, path] as const];
  });
  return tls === true || files.length > 0 ? Object.fromEntries(files) : undefined;
}
