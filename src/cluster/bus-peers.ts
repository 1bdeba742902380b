import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion } from '../wire/question.ts';
import type { Bus, Heard } from './bus.ts';
import type { Answerer, Peers } from './peers.ts';

/** What a message may have, beside what the bus adds. */
const MAX_BYTES = 8 * 1024 * 1024 - 4096;
const NOTHING = Buffer.alloc(0);

/** What {@link BusPeers} are made of. */
export interface BusPeersOptions {
  /** This broker's id. */
  readonly self: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

interface Asked {
  readonly timer: Timer;
  readonly done: (error: HubError | undefined, response: Buffer) => void;
}

/** Questions over a {@link Bus}: a message there, and one back. Whatever is lost is answered by the timeout. */
export class BusPeers implements Peers {
  private readonly options: BusPeersOptions;
  private readonly answerers = new Map<string, Answerer>();
  private readonly asked = new Map<number, Asked>();
  private readonly heard: readonly Heard[];
  /** Answers to a former start with the same id are none of ours. */
  private readonly start: number;
  private calls = 0;
  private stopped = false;

  /** Answers, and asks, from now on. */
  constructor(options: BusPeersOptions) {
    const { self, bus, random } = options;
    this.options = options;
    this.start = random.uint32();
    this.heard = [
      bus.subscribe(`ask.${self}`, (message) => this.questioned(message)),
      bus.subscribe(`answer.${self}`, (message) => this.answered(message)),
    ];
  }

  answer(question: string, answerer: Answerer): void {
    this.answerers.set(question, answerer);
  }

  ask(
    broker: string,
    question: string,
    request: Uint8Array,
    timeoutMs: number,
    done: (error: HubError | undefined, response: Buffer) => void,
  ): void {
    const { self, bus, clock } = this.options;
    this.calls = (this.calls + 1) >>> 0;
    const { calls: call, start } = this;
    const error = this.refuses(broker, request);
    if (error) return clock.soon(() => done(error, NOTHING));
    const timer = clock.after(timeoutMs, () => {
      this.asked.delete(call);
      done(unavailable(`broker ${broker} did not answer within ${timeoutMs} ms; try again`), NOTHING);
    });
    this.asked.set(call, { timer, done });
    bus.publish(`ask.${broker}`, encodeQuestion({ start, call }, self, question, request));
  }

  /** Neither answers nor asks any more; what is not answered yet is `unavailable`. */
  stop(): void {
    this.stopped = true;
    for (const heard of this.heard) heard.stop();
    const asked = [...this.asked.values()];
    this.asked.clear();
    for (const { timer, done } of asked) {
      timer.cancel();
      done(unavailable('this broker stops; ask another'), NOTHING);
    }
  }

  /** Why a question need not be asked. */
  private refuses(broker: string, request: Uint8Array): HubError | undefined {
    if (this.stopped) return unavailable('this broker stops; ask another');
    if (!this.options.bus.connected) {
      return unavailable(`broker ${broker} can't be reached without a connection to NATS; try again`);
    }
    return request.length > MAX_BYTES ? tooLong('request', request.length) : undefined;
  }

  private questioned(message: Buffer): void {
    const asked = this.read(message, decodeQuestion);
    if (!asked) return;
    let answered = false;
    const answer = (error: HubError | undefined, response: Uint8Array): void => {
      if (answered || this.stopped) return;
      answered = true;
      const long = response.length > MAX_BYTES ? tooLong('answer', response.length) : undefined;
      this.options.bus.publish(`answer.${asked.asker}`, encodeAnswer(asked, error ?? long, response));
    };
    const answerer = this.answerers.get(asked.question);
    if (!answerer) {
      const message = `this broker can't answer "${asked.question}"; run the same version of AgentHub everywhere`;
      return answer(new HubError('unimplemented', message), NOTHING);
    }
    try {
      answerer(asked.request, answer);
    } catch (error) {
      answer(toHubError(error), NOTHING);
    }
  }

  private answered(message: Buffer): void {
    const answer = this.read(message, decodeAnswer);
    const asked = answer?.start === this.start ? this.asked.get(answer.call) : undefined;
    // Else it came too late, or twice.
    if (!answer || !asked) return;
    this.asked.delete(answer.call);
    asked.timer.cancel();
    asked.done(answer.error, answer.response);
  }

  private read<T>(message: Buffer, decode: (message: Buffer) => T): T | undefined {
    try {
      return decode(message);
    } catch (error) {
      this.options.logger.debug({ error }, 'a message of another broker could not be read');
      return undefined;
    }
  }
}

function unavailable(message: string): HubError {
  return new HubError('unavailable', message, { retryAfterMs: 200 });
}

function tooLong(what: string, bytes: number): HubError {
  return new HubError(
    'precondition',
    `the ${what} has ${bytes} bytes, more than one message can carry; ask for less at a time`,
  );
}
