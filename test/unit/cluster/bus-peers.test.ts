import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Bus, Heard } from '../../../src/cluster/bus.ts';
import { BusPeers } from '../../../src/cluster/bus-peers.ts';
import { HubError } from '../../../src/std/errors.ts';
import { silent } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';

const MIB = 1024 * 1024;

/** What was answered: the error, or the response. */
type Answer = HubError | string;

/** Messages take a millisecond; `times` says how often each arrives. */
class Network implements Bus {
  readonly clock = new VirtualClock();
  connected = true;
  times = 1;
  longest = 0;
  published = 0;
  private readonly listeners = new Map<string, (message: Buffer) => void>();

  peers(self: string, seed: number): BusPeers {
    return new BusPeers({
      self,
      bus: this,
      clock: this.clock,
      random: new SeededRandom(seed),
      logger: silent,
    });
  }

  subscribe(subject: string, heard: (message: Buffer) => void): Heard {
    this.listeners.set(subject, heard);
    return {
      stop: () => {
        if (this.listeners.get(subject) === heard) this.listeners.delete(subject);
      },
    };
  }

  watch(): void {}

  publish(subject: string, bytes: Uint8Array): void {
    const message = Buffer.from(bytes);
    this.published++;
    this.longest = Math.max(this.longest, message.length);
    for (let left = this.times; left > 0; left--)
      this.clock.after(1, () => this.listeners.get(subject)?.(Buffer.from(message)));
  }
}

function pair(): {
  network: Network;
  near: BusPeers;
  far: BusPeers;
  ask: (q: string, body?: string) => Answer[];
} {
  const network = new Network();
  const near = network.peers('near', 1);
  const far = network.peers('far', 2);
  far.answer('echo', (request, answer) => answer(undefined, request));
  const ask = (question: string, body = ''): Answer[] => {
    const answers: Answer[] = [];
    near.ask('far', question, Buffer.from(body), 1_000, (error, response) =>
      answers.push(error ?? response.toString()),
    );
    return answers;
  };
  return { network, near, far, ask };
}

const error = (code: string): unknown => expect.objectContaining({ name: 'HubError', code });

describe('a question to another broker', () => {
  test('is answered by it', () => {
    const { network, ask } = pair();
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 60 }), { maxLength: 10 }), (bodies) => {
        const answers = bodies.map((body) => ask('echo', body));
        network.clock.advance(2);
        expect(answers).toEqual(bodies.map((body) => [body]));
      }),
    );
    expect(network.clock.pending).toBe(0);
  });

  test('may be answered later, and in another order', () => {
    const { network, far, ask } = pair();
    far.answer('wait', (request, answer) => {
      network.clock.after(Number(request.toString()), () => answer(undefined, request));
    });
    const slow = ask('wait', '500');
    const fast = ask('wait', '5');
    network.clock.advance(10);
    expect([slow, fast]).toEqual([[], ['5']]);
    network.clock.advance(500);
    expect(slow).toEqual(['500']);
  });

  test('is answered once, whatever the network repeats', () => {
    const { network, far, ask } = pair();
    network.times = 3;
    far.answer('chatter', (_request, answer) => {
      answer(undefined, Buffer.from('first'));
      answer(undefined, Buffer.from('second'));
    });
    const answers = ask('chatter');
    network.clock.advance(2_000);
    expect(answers).toEqual(['first']);
    expect(network.published).toBe(1 + network.times);
  });

  test('is answered by the error as the other broker has it', () => {
    const { network, far, ask } = pair();
    const details = { field: 'task.id', limit: 'limits.mailboxDepth', retryAfterMs: 1500 };
    far.answer('refuse', (_request, answer) =>
      answer(new HubError('exhausted', 'full', details), Buffer.alloc(0)),
    );
    far.answer('throw', () => {
      throw new HubError('not_found', 'there is no such task');
    });
    far.answer('break', () => {
      throw new Error('oops');
    });
    const answers = ['refuse', 'throw', 'break', 'unheard-of'].map((question) => ask(question));
    network.clock.advance(2);
    expect(answers).toEqual([
      [expect.objectContaining({ code: 'exhausted', message: 'full', ...details })],
      [expect.objectContaining({ code: 'not_found', message: 'there is no such task', field: undefined })],
      [expect.objectContaining({ code: 'internal', message: 'oops' })],
      [error('unimplemented')],
    ]);
  });

  test('that nobody answers in time is unavailable, and an answer that comes later is not heard', () => {
    const { network, far, ask } = pair();
    far.answer('wait', (request, answer) => {
      network.clock.after(1_500, () => answer(undefined, request));
    });
    const late = ask('wait');
    network.clock.advance(999);
    expect(late).toEqual([]);
    network.clock.advance(5_000);
    expect(late).toEqual([error('unavailable')]);
    network.times = 0;
    const lost = ask('echo');
    network.clock.advance(1_000);
    expect(lost).toEqual([error('unavailable')]);
  });

  test('is unavailable without a connection, but not before the asker is done asking', () => {
    const { network, ask } = pair();
    network.connected = false;
    const answers = ask('echo');
    expect(answers).toEqual([]);
    network.clock.advance(0);
    expect(answers).toEqual([error('unavailable')]);
  });

  test('of a former start with the same id is not answered to the next', () => {
    const { network, near, ask } = pair();
    const former = ask('echo', 'former');
    near.stop();
    const again = network.peers('near', 3);
    const answers: Answer[] = [];
    again.ask('far', 'nobody', Buffer.alloc(0), 1_000, (problem, response) =>
      answers.push(problem ?? response.toString()),
    );
    network.clock.advance(2);
    expect(former).toEqual([error('unavailable')]);
    expect(answers).toEqual([error('unimplemented')]);
  });

  test('or its answer may have nearly 8 MiB, and is refused beyond', () => {
    const { network, far, ask } = pair();
    far.answer('bytes', (request, answer) => answer(undefined, Buffer.alloc(Number(request.toString()))));
    const answers = [
      ask('bytes', `${7.9 * MIB}`),
      ask('bytes', `${8 * MIB}`),
      ask('echo', 'x'.repeat(8 * MIB)),
    ];
    network.clock.advance(2);
    expect((answers[0]![0] as string).length).toBe(Math.floor(7.9 * MIB));
    expect(answers[1]).toEqual([error('precondition')]);
    expect(answers[2]).toEqual([error('precondition')]);
    expect(network.longest).toBeLessThan(8 * MIB);
  });
});

describe('a broker', () => {
  test('that stops leaves no question open, and asks none', () => {
    const { network, near, ask } = pair();
    const open = ask('echo');
    near.stop();
    const after = ask('echo');
    network.clock.advance(10);
    expect([open, after]).toEqual([[error('unavailable')], [error('unavailable')]]);
    expect(network.clock.pending).toBe(0);
  });

  test('ignores what is neither question nor answer', () => {
    const { network, ask } = pair();
    const answers = ask('echo', 'still here');
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.constantFrom('ask.far', 'answer.near'),
        (bytes, subject) => {
          network.publish(subject, bytes);
        },
      ),
    );
    network.clock.advance(5);
    expect(answers).toEqual(['still here']);
  });
});
