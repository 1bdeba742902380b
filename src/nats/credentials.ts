import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Authenticator, ConnectionOptions, NatsConnection } from 'nats';
import {
  connect,
  credsAuthenticator,
  Events,
  nkeyAuthenticator,
  nkeys,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from 'nats';
import type { Clock, Timer } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';

/** What a broker shows NATS: one of these. What is in files is read anew when it changes. */
export interface ShownToNats {
  /** File of user credentials (JWT and seed), as `nsc` writes them. */
  readonly credentialsFile?: string | undefined;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string | undefined;
  readonly token?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly userFile?: string | undefined;
  readonly passwordFile?: string | undefined;
}

/** How a connection is made, but for what is shown. */
type Dial = Readonly<ConnectionOptions>;

/** What can be shown. */
interface Credential {
  /** All of it, to see whether it changes. */
  readonly text: string;
  /** The public key or the name of the user; empty for a token, and for nobody. */
  readonly identity: string;
  readonly show: Authenticator | undefined;
}

interface Connection {
  readonly nats: NatsConnection;
  shown: Credential;
}

/** Between two looks at the files, and two attempts to use what is in them, in milliseconds. */
const LOOK_MS = 1000;
/** A connection that has not come back within this time does so by itself, in milliseconds. */
const BACK_MS = 10_000;

/**
 * Who a broker is to NATS, for all of its connections.
 *
 * When the files change, the new credentials are tried on a connection of their own, again and again if NATS does not
 * know them yet; once they are good, one connection after the other is made anew with them. Who renews them lets NATS
 * know both for as long.
 */
export class NatsCredentials {
  private readonly shown: ShownToNats;
  private readonly files: readonly (readonly [field: string, path: string])[];
  private readonly connections: Connection[] = [];
  /** What NATS has let us in with. */
  private proven: Credential;
  /** What the files say. */
  private latest: Credential;
  private dial: Dial | undefined;
  private clock: Clock | undefined;
  private timer: Timer | undefined;
  private complaint = '';
  private closed = false;

  /** @throws HubError `invalid`: a file can't be read, or does not hold what it should. */
  constructor(shown: ShownToNats) {
    this.shown = shown;
    const fields = ['credentialsFile', 'nkeyFile', 'tokenFile', 'userFile', 'passwordFile'] as const;
    this.files = fields.flatMap((field) => {
      const path = shown[field];
      return path === undefined ? [] : [[field, path] as const];
    });
    this.latest = credentialOf(
      shown,
      this.files.map(([field, path]) => [field, textOf(field, path, readFileSync)] as const),
    );
    this.proven = this.latest;
  }

  /** From now on looks whether the files change. */
  watch(clock: Clock, logger: Logger): void {
    if (this.files.length === 0 || this.closed) return;
    this.clock = clock;
    this.timer = clock.after(LOOK_MS, () => {
      void this.look(logger).finally(() => this.watch(clock, logger));
    });
  }

  /** Looks no more. */
  close(): void {
    this.closed = true;
    this.timer?.cancel();
  }

  /**
   * As whom all connections are let in; `undefined` while they differ, or nothing with a name is shown. What the operator
   * waits for before it takes former credentials away.
   */
  get identity(): string | undefined {
    const identities = new Set(this.connections.map(({ shown }) => shown.identity));
    const [identity] = identities;
    return identities.size === 1 && identity !== '' ? identity : undefined;
  }

  /** Makes a connection with what is to be shown; it is from now on one of those that are made anew. */
  async connect(dial: Dial): Promise<NatsConnection> {
    this.dial = dial;
    let shown = this.proven;
    let tries = 0;
    const authenticator: Authenticator = (nonce) => {
      // A server may know only the one or only the other while they are being changed.
      shown = tries++ % 2 === 0 ? this.proven : this.latest;
      return shown.show?.(nonce);
    };
    const nats = await connect({ ...dial, ...(shown.show && { authenticator }) });
    const connection = { nats, shown };
    this.connections.push(connection);
    void (async () => {
      for await (const { type } of nats.status()) {
        if (type !== Events.Reconnect) continue;
        connection.shown = shown;
        tries = 0;
      }
    })();
    tries = 0;
    void nats.closed().then(() => this.connections.splice(this.connections.indexOf(connection), 1));
    return nats;
  }

  private async look(logger: Logger): Promise<void> {
    try {
      const texts = await Promise.all(
        this.files.map(async ([field, path]) => [field, await readFile(path, 'utf8')] as const),
      ).catch(() => undefined);
      // They are about to be replaced, or were taken away: what they said stays in force.
      if (texts === undefined) return;
      const found = credentialOf(this.shown, texts);
      if (found.text !== this.latest.text) {
        this.latest = found;
        this.complaint = '';
      }
      if (this.latest.text === this.proven.text || this.dial === undefined) return;
      await this.take(this.latest, this.dial, logger);
    } catch (error) {
      const { message } = toHubError(error);
      if (message === this.complaint) return;
      this.complaint = message;
      logger.error(
        { error: message },
        'the credentials for NATS have changed, and are not accepted; those of before stay in use, and the new ones ' +
          'are tried again',
      );
    }
  }

  private async take(found: Credential, dial: Dial, logger: Logger): Promise<void> {
    const probe = await connect({
      ...dial,
      name: `${dial.name ?? ''}, new credentials`,
      reconnect: false,
      ...(found.show && { authenticator: found.show }),
    });
    await probe.close();
    if (this.closed) return;
    this.proven = found;
    for (const { nats } of [...this.connections]) await renew(nats, this.clock);
    logger.info({ user: found.identity }, 'the connections to NATS have new credentials');
  }
}

/** Makes a connection anew; what was published on it leaves before. */
async function renew(nats: NatsConnection, clock: Clock | undefined): Promise<void> {
  if (nats.isClosed()) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const status = nats.status();
  void (async () => {
    for await (const { type } of status) if (type === Events.Reconnect) break;
    resolve();
  })();
  const late = clock?.after(BACK_MS, resolve);
  try {
    await nats.flush();
    await nats.reconnect();
    await promise;
  } catch {
    // It is lost anyhow, and comes back with the new ones.
  } finally {
    late?.cancel();
  }
}

type Texts = readonly (readonly [field: string, text: string])[];

function credentialOf(shown: ShownToNats, texts: Texts): Credential {
  const said = new Map(texts);
  const text = JSON.stringify(texts);
  const credentials = said.get('credentialsFile');
  if (credentials !== undefined) {
    const seed = seedIn(credentials);
    if (seed === undefined) throw wrong('credentialsFile', 'user credentials, as nsc writes them,');
    return {
      text,
      identity: publicKey('credentialsFile', seed),
      show: credsAuthenticator(Buffer.from(credentials)),
    };
  }
  const nkey = said.get('nkeyFile');
  if (nkey !== undefined) {
    const seed = seedIn(nkey);
    if (seed === undefined) throw wrong('nkeyFile', 'seed of a user nkey (SU…)');
    return { text, identity: publicKey('nkeyFile', seed), show: nkeyAuthenticator(Buffer.from(seed)) };
  }
  const token = said.get('tokenFile')?.trim() ?? shown.token;
  if (token !== undefined) return { text, identity: '', show: tokenAuthenticator(token) };
  const user = said.get('userFile')?.trim() ?? shown.user;
  if (user === undefined) return { text, identity: '', show: undefined };
  const password = said.get('passwordFile')?.replace(/\r?\n$/, '') ?? shown.password ?? '';
  return { text, identity: user, show: usernamePasswordAuthenticator(user, password) };
}

/** The seed of a user in a text that may have other lines around it. */
function seedIn(text: string): string | undefined {
  return /^\s*(SU[A-Z2-7]{56})\s*$/m.exec(text)?.[1];
}

/** What the package does not type. */
interface Keys {
  fromSeed(seed: Uint8Array): { getPublicKey(): string };
}

function publicKey(field: string, seed: string): string {
  try {
    return (nkeys as Keys).fromSeed(Buffer.from(seed)).getPublicKey();
  } catch {
    throw wrong(field, 'seed without a mistake');
  }
}

function wrong(field: string, what: string): HubError {
  const message = `nats.${field}: there is no ${what} in that file; name one that has it`;
  return new HubError('invalid', message, { field: `nats.${field}` });
}

/** @throws HubError `invalid` if it can't be read. */
export function textOf(
  field: string,
  path: string,
  read: (path: string, encoding: 'utf8') => string,
): string {
  try {
    return read(path, 'utf8');
  } catch (cause) {
    const message = `nats.${field}: ${path} can't be read; name a file that can`;
    throw new HubError('invalid', message, { field: `nats.${field}`, cause });
  }
}
