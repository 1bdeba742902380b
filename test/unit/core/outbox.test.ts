import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Outbox, type Parcel } from '../../../src/core/outbox.ts';

const parcel = (number: number, sequence = number): Parcel => ({
  number,
  mailbox: 'reply:planner',
  type: '',
  entry: new Uint8Array(0),
  sequence,
});
const numbers = (outbox: Outbox, destination: number): number[] =>
  outbox.pending(destination).map(({ number }) => number);

describe('what is to be forwarded', () => {
  test('waits in order, per shard, until it is marked as forwarded', () => {
    const outbox = new Outbox(2);
    for (const number of [1, 2, 3]) outbox.add(1, parcel(number));
    outbox.add(0, parcel(1));
    outbox.forwarded(1, 2);
    expect([numbers(outbox, 0), numbers(outbox, 1), outbox.size]).toEqual([[1], [3], 2]);
    expect([outbox.issued(0), outbox.issued(1)]).toEqual([1, 3]);
  });

  test('holds the log at the oldest record that has something of it', () => {
    const outbox = new Outbox(2);
    expect(outbox.oldest()).toBe(Infinity);
    outbox.add(1, parcel(1, 70));
    outbox.add(0, parcel(1, 50));
    expect(outbox.oldest()).toBe(50);
    outbox.forwarded(0, 1);
    expect(outbox.oldest()).toBe(70);
  });

  test('is not taken up again by a replay that begins after it was forwarded', () => {
    const outbox = new Outbox(1);
    outbox.forwarded(0, 2);
    for (const number of [1, 2, 3]) outbox.add(0, parcel(number));
    outbox.add(0, parcel(3));
    expect(numbers(outbox, 0)).toEqual([3]);
    outbox.forwarded(0, 1);
    expect(outbox.marks().forwarded).toEqual([2]);
  });
});

describe('what is received', () => {
  test('counts once, however often it comes', () => {
    const outbox = new Outbox(2);
    expect([1, 2, 2, 1, 3].map((number) => outbox.receive(1, number))).toEqual([
      true,
      true,
      false,
      false,
      true,
    ]);
    expect([outbox.received(0), outbox.received(1), outbox.receive(0, 1)]).toEqual([0, 3, true]);
  });

  test('arrives exactly once, in order, over a sender that repeats and two shards that restart', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 100 }), (steps) => {
        let sender = new Outbox(1);
        let receiver = new Outbox(1);
        const arrived: number[] = [];
        const restart = (from: Outbox): Outbox => {
          const again = new Outbox(1);
          again.restore(from.marks());
          for (const one of from.pending(0)) again.add(0, one);
          return again;
        };
        const deliver = (): void => {
          for (const { number } of sender.pending(0)) if (receiver.receive(0, number)) arrived.push(number);
        };
        for (const step of steps) {
          if (step <= 1) sender.add(0, parcel(sender.issued(0) + 1));
          else if (step === 2) deliver();
          else if (step === 3) {
            deliver();
            sender.forwarded(0, sender.issued(0));
          } else if (step === 4) sender = restart(sender);
          else receiver = restart(receiver);
        }
        deliver();
        expect(arrived).toEqual(Array.from({ length: sender.issued(0) }, (_, index) => index + 1));
      }),
    );
  });

  test('and forwarded marks of a checkpoint raise the known ones, and never lower them', () => {
    const outbox = new Outbox(2);
    outbox.forwarded(0, 9);
    outbox.receive(1, 9);
    outbox.add(1, parcel(1));
    outbox.restore({ forwarded: [5, 1], received: [4, 3] });
    expect(outbox.marks()).toEqual({ forwarded: [9, 1], received: [4, 9] });
    expect(outbox.size).toBe(0);
  });
});
