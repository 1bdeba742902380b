import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type { ClientReadableStream, ServiceError } from '@grpc/grpc-js';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll } from '@jest/globals';
import { configSchema } from '../../src/config/schema.ts';
import type { Embedded } from '../../src/embedded.ts';
import { startEmbedded } from '../../src/embedded.ts';
import { silent } from '../../src/std/logger.ts';
import { identityMethod, pathOf, serviceDefinition } from '../../src/wire/service.ts';
import { Inbox } from './inbox.ts';

/** Keys of the configuration that a test sets, as a file would have them. */
export type Settings = Readonly<
  Record<string, Readonly<Record<string, unknown>> | string | number | boolean>
>;

const MEMORY = 8 * 2 ** 30;

/** Starts brokers that end with the test. */
export function brokers(): { start(settings?: Settings): Promise<TestBroker> } {
  const open: TestBroker[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((broker) => broker.remove()));
  });
  return {
    async start(settings = {}) {
      const broker = new TestBroker(settings);
      open.push(broker);
      await broker.start();
      return broker;
    },
  };
}

/** One broker for all tests of a block, for those that leave nothing behind. */
export function sharedBroker(): { readonly broker: TestBroker } {
  let shared: TestBroker | undefined;
  beforeAll(async () => {
    shared = new TestBroker({});
    await shared.start();
  });
  afterAll(() => shared?.remove());
  return {
    get broker() {
      if (!shared) throw new Error('the broker does not run');
      return shared;
    },
  };
}

/** A whole broker in this process, on free ports, with a folder of its own. */
export class TestBroker {
  readonly dir = mkdtempSync(join(tmpdir(), 'agenthub-test-'));
  private readonly settings: Settings;
  private running: Embedded | undefined;
  private connection: Client | undefined;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  get embedded(): Embedded {
    if (!this.running) throw new Error('the broker does not run');
    return this.running;
  }

  get broker(): Embedded['broker'] {
    return this.embedded.broker;
  }

  /** One connection, for all calls that don't need their own. */
  get client(): Client {
    this.connection ??= this.connect();
    return this.connection;
  }

  /** Another connection. */
  connect(): Client {
    return new Client(`127.0.0.1:${this.embedded.grpcPort}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
    });
  }

  async start(): Promise<void> {
    const { dir, settings } = this;
    const section = (name: string): object => (typeof settings[name] === 'object' ? settings[name] : {});
    const config = configSchema(MEMORY).parse({
      shards: 4,
      ...settings,
      grpc: { port: 0, ...section('grpc') },
      http: { port: 0, ...section('http') },
      data: { log: 'memory', dir, ...section('data') },
      stop: { deadlineMs: '300ms', ...section('stop') },
    });
    this.running = await startEmbedded(config, silent);
  }

  async stop(): Promise<void> {
    this.connection?.close();
    this.connection = undefined;
    const { running } = this;
    this.running = undefined;
    await running?.stop();
  }

  /** Stops in good order and starts again on what the log holds. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Calls a unary method; rejects with the `ServiceError`. */
  call<Method extends DescMethod & { methodKind: 'unary' }>(
    method: Method,
    request: MessageInitShape<Method['input']>,
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<MessageShape<Method['output']>> {
    const definition = definitionOf(method);
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        create(method.input, request as never),
        metadataOf(metadata),
        (error, response) => (error ? reject(error) : resolve(response as MessageShape<Method['output']>)),
      );
    });
  }

  /** Calls a unary or server-streaming method with any bytes; resolves with its status code and details. */
  callRaw(
    method: DescMethod,
    request: Buffer,
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<{ code: number; details: string }> {
    const { path, requestSerialize, responseDeserialize } = identityMethod(pathOf(method), {
      requestStream: false,
      responseStream: false,
    });
    return new Promise((resolve) => {
      const call = this.client.makeServerStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadataOf(metadata),
      );
      call.on('data', () => {});
      call.on('error', () => {});
      call.on('status', ({ code, details }) => resolve({ code, details }));
    });
  }

  /** Opens a server stream. */
  subscribe<Method extends DescMethod & { methodKind: 'server_streaming' }>(
    method: Method,
    request: MessageInitShape<Method['input']>,
    {
      client = this.client,
      deadline,
      metadata = {},
    }: { client?: Client; deadline?: number; metadata?: Readonly<Record<string, string>> } = {},
  ): Subscription<MessageShape<Method['output']>> {
    const definition = definitionOf(method);
    return new Subscription(
      client.makeServerStreamRequest(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        create(method.input, request as never),
        metadataOf(metadata),
        deadline === undefined ? {} : { deadline },
      ) as ClientReadableStream<MessageShape<Method['output']>>,
    );
  }
}

/** A server stream as its client sees it. */
export class Subscription<T> extends Inbox<T> {
  readonly call: ClientReadableStream<T>;
  /** How it ended. */
  readonly status: Promise<{ code: number; details: string }>;

  constructor(call: ClientReadableStream<T>) {
    super();
    this.call = call;
    this.status = new Promise((resolve) =>
      call.on('status', ({ code, details }) => resolve({ code, details })),
    );
    call.on('data', (message: T) => this.push(message));
    call.on('error', (error: ServiceError) => this.end(error));
    call.on('end', () => this.end());
  }

  cancel(): void {
    this.call.cancel();
  }
}

interface AnyDefinition {
  readonly path: string;
  readonly requestSerialize: (message: unknown) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

function definitionOf(method: DescMethod): AnyDefinition {
  const definition = serviceDefinition<DescService>(method.parent);
  return definition[method.localName] as unknown as AnyDefinition;
}

function metadataOf(entries: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
  return metadata;
}
