import { EventEmitter } from 'node:events';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { describe, expect, test } from '@jest/globals';
import type { Broker } from '../../../src/broker/broker.ts';
import { Atlas } from '../../../src/core/atlas.ts';
import { Subscriber } from '../../../src/edge/subscriber.ts';
import { silent } from '../../../src/std/logger.ts';
import { ANYBODY } from '../../support/admission.ts';
import { VirtualClock } from '../../support/clock.ts';

/** A call whose client takes a write when the test says so. */
class FakeCall extends EventEmitter {
  readonly writes: { readonly bytes: number; readonly taken: () => void }[] = [];
  status: { code: number } | undefined;

  constructor() {
    super();
    this.on('error', (status: { code: number }) => (this.status = status));
  }

  getPeer(): string {
    return '127.0.0.1:1';
  }

  write(message: Buffer, taken: () => void): boolean {
    this.writes.push({ bytes: message.byteLength, taken });
    return true;
  }
}

/** A subscriber whose owner is the test. */
class Bench {
  readonly call = new FakeCall();
  readonly clock = new VirtualClock();
  resumed = 0;
  ended = 0;
  readonly subscriber: Subscriber;

  constructor(translate: (bytes: Uint8Array) => Buffer = (bytes) => Buffer.from(bytes)) {
    const { call, clock } = this;
    this.subscriber = new Subscriber({
      id: '0123456789abcdef',
      client: 'test',
      tenant: { names: ANYBODY.names, delivered() {} },
      broker: {
        atlas: Atlas.plain(1),
        shardOf: () => 0,
        attach: () => {},
        resume: () => this.resumed++,
        relay: { pause() {} },
      } as unknown as Broker,
      call: call as unknown as ServerWritableStream<Buffer, Buffer>,
      clock,
      logger: silent,
      leave: { admission: ANYBODY, needs: { does: 'read', to: 'planner', field: 'agent_id' } },
      works: true,
      ended: () => this.ended++,
    });
    const wanted = { agent: 'a', types: new Set<string>(), taskIds: new Set<string>() };
    this.subscriber.attach('a', wanted, translate);
  }

  deliver(text: string): void {
    const bytes = Buffer.from(text);
    this.subscriber.deliver(1, undefined, 1, 0, false, bytes, 0, bytes.length);
  }

  /** Delivers for as long as it is ready. */
  fill(text = 'x', most = 1000): number {
    let count = 0;
    while (count < most && this.subscriber.ready()) {
      this.deliver(text);
      count++;
    }
    return count;
  }

  /** The turn of the loop ends, and the client takes what was written, after so long. */
  take(ms = 1): void {
    this.turn();
    this.clock.advance(ms);
    this.call.writes.at(-1)!.taken();
  }

  /** The turn of the loop ends. */
  turn(): void {
    while (this.clock.tick());
  }
}

describe('a stream without acknowledgements', () => {
  test('leaves in one write a turn; what comes while that is under way leaves with the next', () => {
    const bench = new Bench();
    for (const text of ['a', 'b', 'c']) bench.deliver(text);
    bench.turn();
    for (const text of ['d', 'e']) bench.deliver(text);
    bench.turn();
    expect(bench.call.writes.map(({ bytes }) => bytes)).toEqual([13]);
    bench.take();
    bench.take();
    expect(bench.call.writes.map(({ bytes }) => bytes)).toEqual([13, 7]);
  });

  test('takes only so much before its client does, and tells its owner when there is room', () => {
    const bench = new Bench();
    expect(bench.fill()).toBe(10);
    bench.turn();
    expect([bench.fill(), bench.resumed]).toEqual([0, 0]);
    bench.take();
    expect(bench.resumed).toBe(1);
    expect(bench.subscriber.ready()).toBe(true);
  });

  test('takes more from a client that keeps up, up to 100', () => {
    const bench = new Bench();
    let most = 0;
    for (let round = 0; round < 3000; round++) {
      most = Math.max(most, bench.fill());
      bench.take();
    }
    expect(most).toBe(100);
  });

  test('takes less of what is large', () => {
    const bench = new Bench();
    expect(bench.fill('x'.repeat(600_000))).toBe(2);
  });

  test('is ended with RESOURCE_EXHAUSTED when its client takes nothing for ten seconds', () => {
    const bench = new Bench();
    bench.deliver('a');
    bench.turn();
    bench.clock.advance(10_000);
    bench.subscriber.checkAlive(bench.clock.now());
    expect(bench.call.status).toBeUndefined();
    bench.clock.advance(1);
    bench.subscriber.checkAlive(bench.clock.now());
    expect(bench.call.status?.code).toBe(8);
    expect(bench.ended).toBe(1);
    expect(bench.subscriber.ready()).toBe(false);
  });

  test('may be silent for as long as there is nothing for it', () => {
    const bench = new Bench();
    bench.deliver('a');
    bench.take();
    bench.clock.advance(1_000_000);
    bench.subscriber.checkAlive(bench.clock.now());
    expect(bench.call.status).toBeUndefined();
  });

  test.each(['cancelled', 'close', 'error'])('has ended once its call says "%s", and only once', (event) => {
    const bench = new Bench();
    bench.call.emit(event, { code: 1 });
    bench.call.emit('close');
    bench.deliver('late');
    bench.turn();
    expect([bench.ended, bench.subscriber.connected, bench.call.writes.length]).toEqual([1, false, 0]);
  });

  test('leaves out what can not be translated, and lives', () => {
    const bench = new Bench((bytes) => {
      if (bytes.length > 1) throw new RangeError('can not be said');
      return Buffer.from(bytes);
    });
    bench.deliver('bad');
    bench.deliver('x');
    bench.turn();
    expect(bench.call.writes.map(({ bytes }) => bytes)).toEqual([1]);
  });
});
