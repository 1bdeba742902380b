import { expect, test } from '@jest/globals';
import type { JetStreamManager, Msg, NatsConnection } from 'nats';
import { StreamReader } from '../../../src/log/jetstream-reader.ts';
import { VirtualClock } from '../../support/clock.ts';

/** A stream that gives what a test says, when it does. */
class Stream {
  first = 1;
  /** What the broker knows to be truncated, by whomever. */
  known = 1;
  last = 0;
  readonly given: (number | string)[] = [];
  reader!: StreamReader;
  private delivered = 0;
  private give: ((error: null, message: Msg) => void) | undefined;

  async read(from: number): Promise<void> {
    const nats = {
      subscribe: (_inbox: string, { callback }: { callback: NonNullable<Stream['give']> }) => {
        this.give = callback;
        this.delivered = 0;
        return { unsubscribe: () => (this.give = undefined) };
      },
    };
    const jsm = {
      streams: {
        info: () => Promise.resolve({ state: { first_seq: this.first, last_seq: this.last } }),
        getMessage: (_stream: string, { seq }: { seq: number }) =>
          Promise.resolve({ time: new Date(seq * 1000), timestamp: `x.000000000Z` }),
      },
      consumers: {
        add: (_stream: string, { opt_start_seq: start }: { opt_start_seq: number }) => {
          this.given.push(`from ${start}`);
          return Promise.resolve({ name: 'c' });
        },
        delete: () => Promise.resolve(true),
      },
    };
    this.reader = new StreamReader({
      nats: nats as unknown as NatsConnection,
      jsm: jsm as unknown as JetStreamManager,
      clock: new VirtualClock(),
      stream: 's',
      ownerSubject: 'o',
      inboxes: '_INBOX',
      from,
      reader: {
        record: (sequence) => this.given.push(sequence),
        caughtUp: () => this.given.push('caught up'),
        failed: ({ code }) => this.given.push(code),
      },
      first: () => this.known,
      coming() {},
      moved() {},
      stopped() {},
    });
    await this.settle();
  }

  record(sequence: number): void {
    const reply = `$JS.ACK.s.c.1.${sequence}.${++this.delivered}.${sequence}000000000.0`;
    this.give?.(null, { subject: 'q', data: new Uint8Array(1), reply } as unknown as Msg);
  }

  async renew(): Promise<void> {
    this.reader.renew();
    await this.settle();
  }

  private async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
}

test('a reader that was given something is given all that follows, though others have truncated it meanwhile', async () => {
  const stream = new Stream();
  stream.last = 5;
  await stream.read(1);
  stream.record(1);
  stream.record(2);
  stream.known = 5;
  for (const sequence of [3, 4, 5]) stream.record(sequence);
  expect(stream.given).toEqual(['from 1', 1, 2, 3, 4, 5, 'caught up']);
});

test('a reader whose consumer is made anew goes on behind what it was given, or begins anew, and skips nothing', async () => {
  const stream = new Stream();
  stream.last = 9;
  await stream.read(1);
  stream.record(1);
  stream.known = 5;
  await stream.renew();
  stream.record(2);
  stream.first = stream.known = 8;
  await stream.renew();
  expect(stream.given).toEqual(['from 1', 1, 'from 2', 2, 'aborted']);
});

test('a reader that begins leaves out what is truncated, and has caught up if that is all', async () => {
  const stream = new Stream();
  stream.last = 4;
  await stream.read(1);
  stream.known = 3;
  for (const sequence of [1, 2, 3, 4]) stream.record(sequence);
  stream.known = 7;
  stream.record(5);
  expect(stream.given).toEqual(['from 1', 3, 4, 'caught up', 5]);
});

test('a gap behind what was given ends the reading', async () => {
  const stream = new Stream();
  stream.last = 4;
  await stream.read(1);
  stream.record(1);
  stream.record(3);
  stream.record(4);
  expect(stream.given).toEqual(['from 1', 1, 'aborted']);
});
