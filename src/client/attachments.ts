import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Clock, Timer } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import { retryable } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { encodeFrame } from '../wire/client-frame.ts';
import type { Attached, AttachSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import { errorOfRefusal } from '../wire/status.ts';
import type { Receiver } from './delivery.ts';
import type { Outbox } from './outbox.ts';

const RETRY_MS = 1_000;

/** What a session subscribes to. */
export interface AttachmentSpec {
  readonly mailbox: string;
  /** Tasks that may be delivered and unfinished at a time; 0: adaptive. */
  window: number;
  /** Only tasks of these types; empty: all. */
  readonly types: readonly string[];
  /** Gets copies, holds nothing. */
  readonly listener: boolean;
  /** The agent it works for; empty: the mailbox. */
  readonly agent: string;
}

/** A subscription of the session to a mailbox. */
export interface Attachment {
  readonly number: number;
  readonly spec: AttachmentSpec;
  readonly receiver: Receiver;
}

interface State extends Attachment {
  /** It was said on this connection. */
  said: boolean;
  retry: Timer | undefined;
  /** Who waits for the broker's first answer. */
  answer: { resolve: () => void; reject: (error: HubError) => void } | undefined;
}

/** The subscriptions of a session. They outlive its connections, and the broker's memory of it. */
export class Attachments {
  private readonly outbox: Outbox;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private readonly states = new Map<number, State>();
  private last = 0;

  constructor(outbox: Outbox, clock: Clock, logger: Logger) {
    this.outbox = outbox;
    this.clock = clock;
    this.logger = logger;
  }

  get(number: number): Attachment | undefined {
    return this.states.get(number);
  }

  /** Subscribes. Resolves when the broker has taken it; rejects with its refusal. */
  attach(spec: AttachmentSpec, receiver: Receiver): { attachment: Attachment; attached: Promise<void> } {
    const state: State = {
      number: ++this.last,
      spec,
      receiver,
      said: false,
      retry: undefined,
      answer: undefined,
    };
    const attached = new Promise<void>((resolve, reject) => {
      state.answer = { resolve, reject };
    });
    this.states.set(state.number, state);
    this.say(state);
    return { attachment: state, attached };
  }

  /** Unsubscribes. What is held already stays held. */
  detach({ number }: Attachment): void {
    const state = this.states.get(number);
    if (state === undefined) return;
    this.states.delete(number);
    state.retry?.cancel();
    this.stray(number);
  }

  /** Something came for an attachment that is gone: the broker has not heard of its end. */
  stray(number: number): void {
    this.outbox.say(encodeFrame({ detach: [{ attachment: number }] }));
  }

  /** Changes how much may be delivered and unfinished at a time. */
  resize({ number, spec }: Attachment, window: number): void {
    spec.window = window;
    this.outbox.say(encodeFrame({ window: [{ attachment: number, window }] }));
  }

  /** The broker's answer to `attach`. */
  attached({ attachment, refusal }: Attached): void {
    const state = this.states.get(attachment);
    if (state === undefined) return;
    if (refusal === undefined) {
      state.answer?.resolve();
      state.answer = undefined;
      return;
    }
    const error = errorOfRefusal(refusal);
    if (state.answer !== undefined) {
      this.states.delete(attachment);
      state.answer.reject(error);
    } else if (retryable(error)) {
      // It was taken before the connection broke: the broker is only busy.
      state.retry = this.clock.after(error.retryAfterMs ?? RETRY_MS, () => this.say(state));
    } else {
      this.states.delete(attachment);
      this.logger.error(
        { mailbox: state.spec.mailbox, code: error.code },
        `attachment lost: ${error.message}`,
      );
      state.receiver.lost(error);
    }
  }

  /** All of them, for the first frame of a new connection. */
  introduction(): Buffer {
    for (const state of this.states.values()) state.said = true;
    return encodeFrame({ attach: [...this.states.values()].map(attachOf) });
  }

  /** The connection is gone. */
  disconnected(): void {
    for (const state of this.states.values()) state.said = false;
  }

  /** There is a new connection: says what has come after the first frame. */
  welcomed(): void {
    for (const state of this.states.values()) if (!state.said) this.say(state);
  }

  /** The session is over. */
  over(error: HubError): void {
    const states = [...this.states.values()];
    this.states.clear();
    for (const { retry, answer, receiver } of states) {
      retry?.cancel();
      answer?.reject(error);
      receiver.lost(error);
    }
  }

  private say(state: State): void {
    if (!this.outbox.connected) return;
    state.said = true;
    this.outbox.say(encodeFrame({ attach: [attachOf(state)] }));
  }
}

function attachOf({ number, spec }: Attachment): MessageInitShape<typeof AttachSchema> {
  return { ...spec, attachment: number, types: [...spec.types] };
}
