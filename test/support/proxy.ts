import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

/** A network between a client and a broker that fails when a test says so. */
export interface Proxy {
  readonly address: string;
  /** Cuts all connections; new ones are made at once. */
  cut(): void;
  /** Lets nothing through, without a word, until `false`. */
  stall(stalled: boolean): void;
  close(): Promise<void>;
}

/** Starts one in front of `127.0.0.1:port`. */
export async function startProxy(port: number): Promise<Proxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    const pair = [near, far] as const;
    pairs.add(pair);
    near.pipe(far).pipe(near);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    for (const [near, far] of pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  };
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    stall(stalled) {
      for (const [near, far] of pairs) {
        if (stalled) {
          near.unpipe(far).pause();
          far.unpipe(near).pause();
        } else near.pipe(far).pipe(near);
      }
    },
    close() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
