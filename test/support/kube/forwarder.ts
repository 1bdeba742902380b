/**
 * A process in the network of a cluster. It gets listening sockets that were opened outside, and joins
 * each connection to them with one to the address that came with the socket.
 */
import type { Server } from 'node:net';
import { connect } from 'node:net';
import { pipeline } from 'node:stream';

/** Where the connections of the socket that is sent with it go to. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

process.on('message', ({ host, port }: Target, server: Server) => {
  server.on('connection', (outside) => {
    const inside = connect({ host, port, noDelay: true });
    outside.setNoDelay(true);
    // Each side learns from its own connection how the other one has ended.
    pipeline(outside, inside, outside, () => undefined);
  });
  process.send?.('taken');
});

process.on('disconnect', () => process.exit());
