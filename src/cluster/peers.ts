import type { HubError } from '../std/errors.ts';

/** Answers a question of another broker. `answer` is called once. */
export type Answerer = (
  request: Buffer,
  answer: (error: HubError | undefined, response: Uint8Array) => void,
) => void;

/** Questions from broker to broker. */
export interface Peers {
  /** What this broker answers to that question. */
  answer(question: string, answerer: Answerer): void;
  /**
   * Asks a broker. `done` is called once, later: with the answer, with the error that the other broker
   * answered, or with `unavailable` if it did not answer in time.
   */
  ask(
    broker: string,
    question: string,
    request: Uint8Array,
    timeoutMs: number,
    done: (error: HubError | undefined, response: Buffer) => void,
  ): void;
}
