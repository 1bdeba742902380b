import type { sendUnaryData, ServerDuplexStream, ServerUnaryCall } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { widenConnections, widenStreams } from '../../../src/edge/http2-windows.ts';
import { CALL, MOVE, WORKER } from '../bare/method.ts';

/*
 * grpc-js and nothing else: what a publisher sends goes to the worker as it came, and the publisher hears that it
 * was taken. Neither is read, and nothing is kept.
 */
const ACK = Buffer.alloc(8);
const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.enable_channelz': 0 });
let worker: ServerDuplexStream<Buffer, Buffer> | undefined;

server.addService(
  { move: MOVE, call: CALL },
  {
    move(stream: ServerDuplexStream<Buffer, Buffer>) {
      stream.on('data', (frame: Buffer) => {
        if (frame.equals(WORKER)) worker = stream;
        else if (stream !== worker) {
          stream.write(ACK);
          worker?.write(frame);
        }
      });
      stream.on('end', () => stream.end());
      stream.on('error', () => {});
    },
    call(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
      worker?.write(call.request);
      done(null, ACK);
    },
  },
);
widenStreams(server);
server.bindAsync(`127.0.0.1:${process.argv[2]}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  widenConnections(server);
});
