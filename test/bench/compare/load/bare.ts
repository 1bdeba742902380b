import { Client as GrpcClient, credentials } from '@grpc/grpc-js';
import { setTimeout as sleep } from 'node:timers/promises';
import { CALL, MOVE, WORKER } from '../../bare/method.ts';
import { ByteStream } from '../../load/stream.ts';
import type { Client, ClientSpec, Ears } from './client.ts';

/** A call a task, or frames of as many tasks as a batch has; the worker says nothing back. */
export async function openBare(
  { port, batch }: ClientSpec & { readonly client: 'bare' },
  ears: Ears,
): Promise<Client> {
  let size = 0;
  const worker = new ByteStream(port, MOVE, (frame) => {
    for (let at = 0; at < frame.length; at += size) ears.delivered(frame.subarray(at, at + size));
    ears.completed(frame.length / size);
  });
  worker.write(WORKER);
  await sleep(100);
  if (batch === 1) {
    const client = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    return {
      batch,
      publish([payload]) {
        size = payload!.length;
        const { path, requestSerialize, responseDeserialize } = CALL;
        return new Promise((resolve) => {
          client.makeUnaryRequest(path, requestSerialize, responseDeserialize, payload!, (error) =>
            resolve([error === null]),
          );
        });
      },
      async close() {
        client.close();
        worker.close();
      },
    };
  }
  const waiting: (() => void)[] = [];
  const publisher = new ByteStream(port, MOVE, () => waiting.shift()?.());
  return {
    batch,
    publish(payloads) {
      size = payloads[0]!.length;
      publisher.write(Buffer.concat(payloads));
      return new Promise((resolve) => waiting.push(() => resolve(payloads.map(() => true))));
    },
    async close() {
      publisher.close();
      worker.close();
    },
  };
}
