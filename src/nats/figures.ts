import type { NatsConnection } from 'nats';
import type { ConnectionRegister, NatsRole } from './connection.ts';
import { watchConnection } from './connection.ts';

interface Watched {
  readonly nats: NatsConnection;
  connected: boolean;
  disconnects: number;
  roundTripSeconds: number;
  pinging: boolean;
}

/** A figure of each connection. */
export type PerConnection = readonly (readonly [role: NatsRole, value: number])[];

/** What the connections of one broker to NATS have seen so far; it counts along, and is read at a scrape. */
export class NatsFigures implements ConnectionRegister {
  readonly #connections = new Map<NatsRole, Watched>();

  /** From now on tells of that connection, too. */
  add(role: NatsRole, nats: NatsConnection): void {
    const watched: Watched = { nats, connected: true, disconnects: 0, roundTripSeconds: 0, pinging: false };
    this.#connections.set(role, watched);
    void watchConnection(nats, {
      lost: () => {
        if (watched.connected) watched.disconnects++;
        watched.connected = false;
      },
      back: () => (watched.connected = true),
      denied: () => {},
    });
  }

  /** 1 for those that stand, 0 for the others. */
  connected(): PerConnection {
    return this.#each(({ connected, nats }) => (connected && !nats.isClosed() ? 1 : 0));
  }

  disconnects(): PerConnection {
    return this.#each(({ disconnects }) => disconnects);
  }

  /** What was measured after the last call, in seconds; each call begins the next measurement. */
  roundTrips(): PerConnection {
    return this.#each((watched) => {
      ping(watched);
      return watched.roundTripSeconds;
    });
  }

  sentBytes(): PerConnection {
    return this.#each(({ nats }) => nats.stats().outBytes);
  }

  receivedBytes(): PerConnection {
    return this.#each(({ nats }) => nats.stats().inBytes);
  }

  sentMessages(): PerConnection {
    return this.#each(({ nats }) => nats.stats().outMsgs);
  }

  receivedMessages(): PerConnection {
    return this.#each(({ nats }) => nats.stats().inMsgs);
  }

  #each(read: (watched: Watched) => number): PerConnection {
    return Array.from(this.#connections, ([role, watched]) => [role, read(watched)] as const);
  }
}

function ping(watched: Watched): void {
  if (watched.pinging || !watched.connected || watched.nats.isClosed()) return;
  watched.pinging = true;
  watched.nats
    .rtt()
    .then(
      (ms) => (watched.roundTripSeconds = ms / 1000),
      () => {},
    )
    .finally(() => (watched.pinging = false));
}
