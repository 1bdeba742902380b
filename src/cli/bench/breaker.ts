import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

/** Stands between clients and a broker, on loopback, and breaks their connections when it is told to. */
export class Breaker {
  private readonly server: Server;
  private readonly pairs: (readonly [Socket, Socket])[] = [];
  private turn = 0;
  /** Connections that were broken. */
  broken = 0;

  /** Begins to forward to that host and port. */
  static async start(host: string, port: number): Promise<Breaker> {
    const breaker = new Breaker(host, port);
    breaker.server.listen(0, '127.0.0.1');
    await once(breaker.server, 'listening');
    return breaker;
  }

  private constructor(host: string, port: number) {
    this.server = createServer((near) => {
      const far = connect(port, host);
      const pair = [near, far] as const;
      this.pairs.push(pair);
      const end = (): void => {
        near.destroy();
        far.destroy();
        const place = this.pairs.indexOf(pair);
        if (place >= 0) this.pairs.splice(place, 1);
      };
      for (const socket of pair) {
        socket.setNoDelay(true);
        socket.on('error', end);
        socket.on('close', end);
      }
      near.pipe(far).pipe(near);
    });
  }

  /** Where clients are to connect. */
  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Breaks one connection, without a word; each in its turn. */
  break(): void {
    const pair = this.pairs[this.turn++ % Math.max(1, this.pairs.length)];
    if (pair === undefined) return;
    this.broken++;
    for (const socket of pair) socket.resetAndDestroy();
  }

  close(): void {
    this.server.close();
    for (const pair of [...this.pairs]) for (const socket of pair) socket.destroy();
  }
}
