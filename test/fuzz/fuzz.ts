import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescMethod } from '@bufbuild/protobuf';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { connect } from '../../src/client/index.ts';
import { loadConfig } from '../../src/config/load.ts';
import { readPolicy } from '../../src/edge/policy-file.ts';
import { HubError, toHubError } from '../../src/std/errors.ts';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { ClientFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { identityMethod, pathOf } from '../../src/wire/service.ts';
import { callHeaders, frame, grpcMessage, headerBlock, PREFACE } from '../support/http2.ts';
import { SeededRandom } from '../support/random.ts';
import { ServeProcess } from '../support/serve.ts';
import { messageOf, mutated, pick } from './mutate.ts';

const METHODS: readonly DescMethod[] = [Broker, Admin, EventBus]
  .flatMap((service): readonly DescMethod[] => service.methods)
  // It would end what is tried.
  .filter(({ name }) => name !== 'Drain');
const CALL_MS = 500;
/** An answer that takes longer never comes. */
const HANG_MS = 60_000;
const MAX_GROWTH = 512 * 2 ** 20;

const CONFIG = `grpc: { host: 127.0.0.1, port: 50051, maxMessageBytes: 8MiB }
auth: { tokens: [0123456789abcdef] }
limits: { mailboxDepth: 1_000, memoryHighWaterBytes: 70% }
session: { heartbeatMs: 3s, timeoutMs: 10s }
nats: { servers: "a:1, b:2", user: u, password: p }
`;
const POLICY = `rules:
  - name: planners
    who: ['token:planner-*']
    be: ['planner', 'planner-*']
    publish: ['type:*', 'worker-?']
`;

/** A broker that is fed whatever comes; each case comes from its seed alone. */
export class Fuzz {
  private readonly broker: ServeProcess;
  private readonly dir: string;
  private readonly client: Client;
  private memory = 0;

  static async start(): Promise<Fuzz> {
    const dir = mkdtempSync(join(tmpdir(), 'agenthub-fuzz-'));
    const flags = ['--data-log', 'memory', '--shards', '4', '--grpc-request-timeout-ms', '500ms'];
    const limits = [
      '--limits-mailboxes',
      '10000',
      '--limits-sessions',
      '1000',
      '--grpc-handshake-timeout-ms',
      '500ms',
    ];
    const fuzz = new Fuzz(
      await ServeProcess.start(dir, [...flags, ...limits, '--retention-task-ms', '10s']),
      dir,
    );
    await fuzz.check();
    fuzz.memory = await fuzz.resident();
    return fuzz;
  }

  private constructor(broker: ServeProcess, dir: string) {
    this.broker = broker;
    this.dir = dir;
    this.client = new Client(broker.grpc, credentials.createInsecure());
  }

  /** @throws Error which says what the case did that must not be. */
  async run(seed: number): Promise<void> {
    const random = new SeededRandom(seed);
    const kinds = [this.call, this.session, this.http2, this.http, this.config, this.policy];
    const kind = pick(random, kinds);
    await inTime(kind.call(this, random), kind.name);
    if (!this.broker.running) throw new Error(`the broker has ended: ${this.broker.stderr.slice(-2000)}`);
  }

  /** @throws Error if the broker does no work any more, or has grown. */
  async check(): Promise<void> {
    const work = async (): Promise<void> => {
      const hub = await connect({ address: this.broker.grpc });
      const { id } = await hub.publish({ to: 'proof' });
      await new Promise<void>((resolve, reject) => {
        hub.work('proof', (task) => task.id === id && resolve()).catch(reject);
      });
      await hub.close();
    };
    await inTime(work(), 'an honest client');
    const grown = this.memory === 0 ? 0 : (await this.resident()) - this.memory;
    if (grown > MAX_GROWTH) throw new Error(`the broker has grown by ${Math.round(grown / 2 ** 20)} MiB`);
  }

  async end(): Promise<void> {
    this.client.close();
    const { code, stderr } = await this.broker.end('SIGTERM');
    rmSync(this.dir, { recursive: true, force: true });
    if (code !== 0) throw new Error(`the broker has ended with ${code}: ${stderr.slice(-2000)}`);
  }

  private async resident(): Promise<number> {
    const text = await (await fetch(`http://${this.broker.http}/metrics`)).text();
    return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]);
  }

  /** A method, with a message that it might get, and then some bytes of it changed. */
  private call(random: SeededRandom): Promise<void> {
    const method = pick(random, METHODS);
    return this.send(method, [mutated(random, messageOf(random, method.input))]);
  }

  /** Frames of a session: hello, and then anything. */
  private session(random: SeededRandom): Promise<void> {
    const frames = Array.from({ length: random.below(8) }, () =>
      mutated(random, messageOf(random, ClientFrameSchema)),
    );
    return this.send(Broker.method.connect, [Buffer.of(0x0a, 0x00), ...frames]);
  }

  private send(method: DescMethod, messages: readonly Buffer[]): Promise<void> {
    const { path, requestSerialize, responseDeserialize } = identityMethod(pathOf(method), {
      requestStream: true,
      responseStream: true,
    });
    const options = { deadline: Date.now() + CALL_MS };
    const call = this.client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      options,
    );
    return new Promise((resolve) => {
      call.on('data', () => {});
      call.on('error', () => {});
      call.on('status', () => resolve());
      for (const message of messages) call.write(message);
      call.end();
    });
  }

  /** Frames of HTTP/2 that make sense one by one, in any order, and then some bytes of them changed. */
  private http2(random: SeededRandom): Promise<void> {
    const parts: Buffer[] = [];
    for (let frames = random.below(20); frames > 0; frames--) {
      const stream = pick(random, [0, 1, 1, 3, 5, 2, 2 ** 31 - 1]);
      const method = pick(random, METHODS);
      const payload = pick(random, [
        headerBlock(callHeaders(pathOf(method))),
        grpcMessage(messageOf(random, method.input), { compressed: random.chance(0.1) }),
        Buffer.from(random.token(random.below(40)), 'hex'),
        Buffer.alloc(8),
        Buffer.alloc(4),
      ]);
      parts.push(frame(random.below(12), random.below(256), stream, payload));
    }
    const begin = Buffer.concat([PREFACE, frame(4, 0, 0)]);
    const bytes = Buffer.concat(parts);
    return this.raw(
      this.broker.grpc,
      random.chance(0.8) ? [begin, mutated(random, bytes)] : [mutated(random, begin), bytes],
    );
  }

  private http(random: SeededRandom): Promise<void> {
    const path = pick(random, [
      '/healthz',
      '/metrics',
      '/capacity',
      '/readyz',
      '/placement',
      '/',
      '/%',
      `/${'x'.repeat(9000)}`,
    ]);
    const method = pick(random, ['GET', 'HEAD', 'PUT', 'OPTIONS', 'TRACE', 'get', '\u0000']);
    const headers = pick(random, [
      '',
      'content-length: 5\r\n\r\nhello',
      'transfer-encoding: chunked\r\n\r\nffffffff\r\n',
      'expect: 100-continue',
    ]);
    const text = `${method} ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${headers}\r\n\r\n`;
    return this.raw(this.broker.http, [mutated(random, Buffer.from(text))]);
  }

  /** Says it, and waits for the end of the connection. */
  private raw(address: string, parts: readonly Buffer[]): Promise<void> {
    const [host, port] = address.split(':') as [string, string];
    return new Promise((resolve) => {
      const socket = connectTcp({ host, port: Number(port) });
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.resume();
      socket.end(Buffer.concat(parts));
    });
  }

  private config(random: SeededRandom): Promise<void> {
    const file = join(this.dir, 'fuzz.yaml');
    writeFileSync(file, mutated(random, mutated(random, Buffer.from(CONFIG))));
    return refusedOrNot(() => loadConfig({ file, env: {}, flags: {} }));
  }

  private policy(random: SeededRandom): Promise<void> {
    const text = mutated(random, mutated(random, Buffer.from(POLICY))).toString();
    return refusedOrNot(() => readPolicy(text, 'policy.yaml'));
  }
}

/** Whatever is wrong must be said as an error that is meant for people. */
function refusedOrNot(act: () => unknown): Promise<void> {
  try {
    act();
  } catch (error) {
    if (!(error instanceof HubError) || error.code === 'internal') return Promise.reject(toHubError(error));
  }
  return Promise.resolve();
}

async function inTime(work: Promise<void>, what: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no end after ${HANG_MS / 1000} s`)), HANG_MS);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
