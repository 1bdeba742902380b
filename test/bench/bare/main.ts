import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { widenConnections, widenStreams } from '../../../src/edge/http2-windows.ts';
import { answer } from '../child.ts';
import { UsageProbe } from '../usage.ts';
import { CALL, MOVE, WORKER } from './method.ts';

/** grpc-js and nothing else: takes the same bytes and gives the same bytes, of which it reads none. */
const probe = new UsageProbe();
const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.enable_channelz': 0 });

/** What the peer says for a frame that came. */
export interface BareReplies {
  readonly delivery: Uint8Array;
  readonly ack: Uint8Array;
}

const calls = {
  /**
   * A stream that opens with {@link WORKER} is the worker's, others are publishers'. For each frame of a
   * publisher: one ack back, one delivery frame to the worker. For each frame of the worker: one ack.
   */
  start({ delivery, ack }: BareReplies): Promise<number> {
    let worker: ServerDuplexStream<Buffer, Buffer> | undefined;
    const deliveryFrame = Buffer.from(delivery);
    const ackFrame = Buffer.from(ack);
    server.addService(
      { move: MOVE, call: CALL },
      {
        move(stream: ServerDuplexStream<Buffer, Buffer>) {
          stream.on('data', (frame: Buffer) => {
            if (frame.equals(WORKER)) {
              worker = stream;
              return;
            }
            stream.write(ackFrame);
            if (stream !== worker) worker?.write(deliveryFrame);
          });
          stream.on('end', () => stream.end());
          stream.on('error', () => {});
        },
        call: (_call: unknown, done: (error: null, reply: Buffer) => void) => done(null, ackFrame),
      },
    );
    widenStreams(server);
    return new Promise((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(error);
        else {
          widenConnections(server);
          resolve(port);
        }
      });
    });
  },
  usage: (options: { readonly collect: boolean }) => probe.read(options),
};

/** What this process can be asked. */
export type BareCalls = typeof calls;

answer(calls, () => server.forceShutdown());
