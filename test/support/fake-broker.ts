import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Hub } from '../../src/client/hub.ts';
import type { HubOptions } from '../../src/client/hub.ts';
import type { Link, LinkEvents, Transport } from '../../src/client/link.ts';
import type { SessionState } from '../../src/client/session.ts';
import { HubError } from '../../src/std/errors.ts';
import { silent } from '../../src/std/logger.ts';
import type {
  Attach,
  ClientFrame,
  Hello,
  Publish,
  Settle,
  Settlement,
} from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import {
  ClientFrameSchema,
  Durability,
  ServerFrameSchema,
} from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { ResultSchema, TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { LEASE_BYTES } from '../../src/wire/lease.ts';
import { VirtualClock } from './clock.ts';
import { SeededRandom } from './random.ts';

/** What the broker says by itself. Tests switch off what they want to say themselves. */
export interface Manners {
  welcome: boolean;
  resumed: boolean;
  attached: boolean;
  published: boolean;
  settled: boolean;
  heartbeat: boolean;
}

/** The broker's end of a connection, as a test plays it. */
export class FakeLink implements Link {
  readonly address: string;
  /** What the client has said, frame by frame. */
  readonly frames: ClientFrame[] = [];
  /** Answered by `write`. */
  writable = true;
  ended = false;
  destroyed = false;
  private readonly events: LinkEvents;
  private readonly heard: (frame: ClientFrame, link: FakeLink) => void;

  constructor(address: string, events: LinkEvents, heard: (frame: ClientFrame, link: FakeLink) => void) {
    this.address = address;
    this.events = events;
    this.heard = heard;
  }

  write(bytes: Buffer): boolean {
    const frame = fromBinary(ClientFrameSchema, bytes);
    this.frames.push(frame);
    this.heard(frame, this);
    return this.writable;
  }

  end(): void {
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: { readonly output: O },
    _request: MessageShape<I>,
  ): Promise<MessageShape<O>> {
    return Promise.resolve(create(method.output));
  }

  /** The broker says something. */
  say(frame: MessageInitShape<typeof ServerFrameSchema>): void {
    this.events.frame(Buffer.from(toBinary(ServerFrameSchema, create(ServerFrameSchema, frame))));
  }

  raw(bytes: Buffer): void {
    this.events.frame(bytes);
  }

  drain(): void {
    this.writable = true;
    this.events.drained();
  }

  /** The connection breaks. */
  break(error: HubError): void {
    this.events.closed(error);
  }

  get hello(): Hello {
    return this.frames[0]!.hello!;
  }

  get attaches(): Attach[] {
    return this.frames.flatMap((frame) => frame.attach);
  }

  get publishes(): Publish[] {
    return this.frames.flatMap((frame) => frame.publish);
  }

  get settles(): Settle[] {
    return this.frames.flatMap((frame) => frame.settle);
  }

  get settlements(): Settlement[] {
    return this.settles.flatMap((settle) => settle.settlements);
  }

  deliver(
    attachment: number,
    lease: Uint8Array,
    task: MessageInitShape<typeof TaskSchema>,
    attempt = 1,
  ): void {
    this.say({ delivery: [{ attachment, lease, attempt, acceptedAtMs: 7n, task }] });
  }

  deliverResult(attachment: number, lease: Uint8Array, result: MessageInitShape<typeof ResultSchema>): void {
    this.say({ delivery: [{ attachment, lease, attempt: 1, acceptedAtMs: 7n, result }] });
  }
}

/** A broker that a test plays, with a client of it on virtual time. */
export class FakeBroker implements Transport {
  readonly clock = new VirtualClock();
  readonly links: FakeLink[] = [];
  readonly states: SessionState[] = [];
  readonly manners: Manners = {
    welcome: true,
    resumed: true,
    attached: true,
    published: true,
    settled: true,
    heartbeat: true,
  };
  limits = { taskBytes: 1024 * 1024, batchTasks: 1000, frameBytes: 8 * 1024 * 1024, window: 4096 };

  open(address: string, events: LinkEvents): Link {
    const link = new FakeLink(address, events, (frame, on) => this.answer(frame, on));
    this.links.push(link);
    return link;
  }

  /** The newest connection. */
  get link(): FakeLink {
    return this.links.at(-1)!;
  }

  client(options: Partial<HubOptions> = {}): Hub {
    const { clock } = this;
    return new Hub(this, {
      address: 'broker:1',
      agent: 'planner',
      client: 'test',
      dialMs: 5_000,
      connectMs: 10_000,
      callMs: 5_000,
      publisher: { unacknowledgedBytes: 1_000_000, timeoutMs: 30_000 },
      clock,
      random: new SeededRandom(1),
      logger: silent,
      onStateChange: (state) => this.states.push(state),
      ...options,
    });
  }

  /** A client that is connected. */
  async connected(options: Partial<HubOptions> = {}): Promise<Hub> {
    const hub = this.client(options);
    const open = hub.open();
    await this.settle();
    await open;
    return hub;
  }

  /** Closes a client. */
  async close(hub: Hub): Promise<void> {
    const closed = hub.close();
    await this.settle();
    await closed;
  }

  /** Runs all that is due and all that follows from it, without letting time pass. */
  async settle(): Promise<void> {
    for (let round = 0; round < 20; round++) {
      while (this.clock.tick());
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    }
  }

  /** Lets time pass in steps, so that promises keep up with timers. */
  async pass(ms: number): Promise<void> {
    const until = this.clock.now() + ms;
    await this.settle();
    while (this.clock.nextTimer <= until) {
      this.clock.advance(this.clock.nextTimer - this.clock.now());
      await this.settle();
    }
    this.clock.advance(until - this.clock.now());
    await this.settle();
  }

  private answer(frame: ClientFrame, link: FakeLink): void {
    const { manners } = this;
    const { hello } = frame;
    this.clock.soon(() => {
      if (link.destroyed) return;
      if (hello && manners.welcome) {
        const sessionId =
          hello.sessionId === '' || !manners.resumed ? `s${this.links.length}` : hello.sessionId;
        const resumed = hello.sessionId !== '' && manners.resumed;
        link.say({
          welcome: { sessionId, resumed, heartbeatMs: 3000, graceMs: 10_000, limits: this.limits },
        });
      }
      if (manners.attached && frame.attach.length > 0)
        link.say({ attached: frame.attach.map(({ attachment }) => ({ attachment })) });
      if (manners.published && frame.publish.length > 0) {
        link.say({
          publishAck: frame.publish.map(({ batch }) => ({ batch, durability: Durability.SYNCED })),
        });
      }
      if (manners.settled && frame.settle.length > 0)
        link.say({ settleAck: frame.settle.map(({ batch }) => ({ batch })) });
      if (manners.heartbeat && frame.heartbeat) link.say({ heartbeat: frame.heartbeat });
      if (frame.goodbye) link.break(new HubError('unavailable', 'goodbye'));
    });
  }
}

/** A lease that differs from all others by its number. */
export function leaseNo(number: number): Uint8Array {
  const lease = new Uint8Array(LEASE_BYTES);
  new DataView(lease.buffer).setUint32(4, number, true);
  return lease;
}
