import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { create, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import {
  Broker,
  GetTaskRequestSchema,
  GetTaskResponseSchema,
} from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { GetTaskResponse } from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { identityMethod, received, serviceDefinition, unaryMethod } from '../../../src/wire/service.ts';
import type { Implementation } from '../../../src/wire/service.ts';
import { errorOf, statusOf } from '../../../src/wire/status.ts';

const server = new Server();
let client: Client;

const broker: Pick<Implementation<typeof Broker, 'connect'>, 'connect' | 'getTask'> = {
  connect(call) {
    call.on('data', (frame) => call.write(Buffer.concat([frame, frame])));
    call.on('end', () => call.end());
  },
  getTask(call, answer) {
    try {
      const { taskId } = received(call.request);
      answer(null, create(GetTaskResponseSchema, { task: { id: taskId } }));
    } catch (error) {
      answer(statusOf(error));
    }
  },
};

beforeAll(async () => {
  server.addService(serviceDefinition(Broker, ['connect']), broker);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterAll(() => {
  client.close();
  server.forceShutdown();
});

describe('a service made from its descriptor', () => {
  test('decodes requests and encodes responses', async () => {
    const { path, requestSerialize, responseDeserialize } = unaryMethod(Broker.method.getTask);
    const answer = await new Promise<GetTaskResponse | undefined>((resolve, reject) => {
      const request = create(GetTaskRequestSchema, { taskId: 't-1' });
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, value) =>
        error ? reject(error) : resolve(value),
      );
    });
    expect(answer?.task?.id).toBe('t-1');
  });

  test('passes the bytes of raw methods untouched', async () => {
    const { path, requestSerialize, responseDeserialize } = identityMethod('/agenthub.v1.Broker/Connect', {
      requestStream: true,
      responseStream: true,
    });
    const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    const got: Buffer[] = [];
    call.on('data', (frame: Buffer) => got.push(frame));
    call.end(Buffer.from([1, 2, 255]));
    await new Promise((resolve) => call.on('end', resolve));
    expect(got).toEqual([Buffer.from([1, 2, 255, 1, 2, 255])]);
  });

  test('a request that is no message of its kind is INVALID_ARGUMENT, and the server lives', async () => {
    const { path } = unaryMethod(Broker.method.getTask);
    for (const bytes of [Buffer.from([0xff, 0xff]), Buffer.from([0x0a, 2, 0xc3, 0x28])]) {
      const error = await new Promise<ServiceError | null>((resolve) => {
        client.makeUnaryRequest(
          path,
          (b: Buffer) => b,
          (b) => b,
          bytes,
          resolve,
        );
      });
      expect(errorOf(error!)).toMatchObject({
        code: 'invalid',
        message: expect.stringContaining('GetTaskRequest'),
      });
    }
  });

  test('takes any request that protobuf-es makes', () => {
    const { getTask } = serviceDefinition(Broker);
    const request = create(GetTaskRequestSchema, { taskId: 'ü', includeTask: true });
    expect(getTask.requestSerialize(request)).toEqual(Buffer.from(toBinary(GetTaskRequestSchema, request)));
    expect(getTask.requestDeserialize(getTask.requestSerialize(request))).toEqual(request);
    expect(getTask).toMatchObject({
      path: '/agenthub.v1.Broker/GetTask',
      requestStream: false,
      responseStream: false,
    });
  });
});
