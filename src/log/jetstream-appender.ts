import type { JetStreamManager, Msg, NatsConnection } from 'nats';
import { createInbox, headers } from 'nats';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import type { Stream } from './jetstream-stream.ts';
import type { Append } from './log.ts';

/** What became of an append: its sequence, or why there is none. */
export type Appended = (error: HubError | undefined, sequence: number) => void;

interface Pending {
  readonly stream: Stream;
  readonly append: Append;
  readonly done: Appended;
  readonly sentAt: number;
}

interface Answer {
  readonly seq?: number;
  readonly error?: { readonly err_code?: number; readonly description?: string };
}

/** An append that has had no answer for this long is undecided, in milliseconds. */
const ANSWER_MS = 2000;
/** Until an append that JetStream could not decide is sent again, in milliseconds. */
const UNDECIDED_MS = 1;

/**
 * Sends appends to streams and takes their answers, which all come to one subscription.
 *
 * Every append carries its id, so that a retry within 30 s is stored once, and an owner's carries the sequence
 * it builds on, which JetStream compares. Refused, the owner's last record tells whether an earlier try of the
 * same append was stored after all.
 */
export class Appender {
  connected = true;
  private readonly nats: NatsConnection;
  private readonly jsm: JetStreamManager;
  private readonly clock: Clock;
  private readonly inbox: string;
  private readonly pending = new Map<string, Pending>();
  private sent = 0;
  private whenIdle: (() => void)[] = [];

  /** `inboxes`: what the inbox for answers begins with. */
  constructor(nats: NatsConnection, jsm: JetStreamManager, clock: Clock, inboxes: string) {
    this.inbox = createInbox(inboxes);
    this.nats = nats;
    this.jsm = jsm;
    this.clock = clock;
    nats.subscribe(`${this.inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.answer(message);
      },
    });
  }

  /** Calls `done` once, later, and after some seconds at most. */
  append(stream: Stream, append: Append, done: Appended): void {
    if (!this.connected) {
      this.clock.soon(() => done(undecided('NATS is not connected'), 0));
      return;
    }
    const token = (++this.sent).toString(36);
    const pending = { stream, append, done, sentAt: this.clock.now() };
    this.pending.set(token, pending);
    this.send(token, pending);
  }

  /** Gives up what has been without an answer for too long. */
  check(now: number): void {
    for (const [token, { sentAt }] of this.pending) {
      if (now - sentAt < ANSWER_MS) return;
      this.settle(token, undecided(`NATS has not answered for ${ANSWER_MS} ms`), 0);
    }
  }

  /** The connection is lost, and with it the answers. */
  lost(): void {
    this.connected = false;
    for (const token of [...this.pending.keys()]) {
      this.settle(token, undecided('the connection to NATS was lost'), 0);
    }
  }

  /** NATS has refused something sent to that subject. */
  denied(subject: string): void {
    for (const [token, { stream, append }] of [...this.pending]) {
      if (stream.subjects[append.subject] === subject) this.settle(token, forbidden(subject), 0);
    }
  }

  /** Resolves when everything has been answered. */
  idle(): Promise<void> {
    if (this.pending.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.whenIdle.push(resolve));
  }

  /**
   * Whether it may append there at all, by appends that no stream takes.
   *
   * @throws HubError `permission`
   */
  async probe({ subjects }: Stream): Promise<void> {
    const head = headers();
    head.set('Nats-Expected-Stream', 'none');
    for (const subject of Object.values(subjects)) {
      try {
        await this.nats.request(subject, undefined, { headers: head, timeout: ANSWER_MS });
      } catch (error) {
        const fault = natsFault(error, `appending to ${subject}`);
        // Anything else, as a stream without a leader, may pass.
        if (fault.code === 'permission') throw fault;
      }
    }
  }

  private send(token: string, { stream, append }: Pending): void {
    const head = headers();
    head.set('Nats-Msg-Id', append.id);
    if (append.expectedOwner !== undefined) {
      head.set('Nats-Expected-Last-Subject-Sequence', String(append.expectedOwner));
    }
    const reply = `${this.inbox}.${token}`;
    try {
      this.nats.publish(stream.subjects[append.subject], append.bytes, { reply, headers: head });
    } catch (error) {
      this.clock.soon(() => this.settle(token, natsFault(error, 'appending'), 0));
    }
  }

  private answer(message: Msg): void {
    const token = message.subject.slice(this.inbox.length + 1);
    const pending = this.pending.get(token);
    // The answer to an append that was given up is of no use: its retry gets one of its own.
    if (pending === undefined) return;
    if (message.data.length === 0) return this.settle(token, undecided('the stream has no leader'), 0);
    const { seq = 0, error } = message.json<Answer>();
    if (error === undefined) return this.settle(token, undefined, seq);
    switch (error.err_code) {
      case API.wrongLastSequence:
        return void this.confirm(token, pending);
      case API.conditionalInFlight:
      case API.sameIdInFlight:
        this.clock.after(UNDECIDED_MS, () => {
          if (this.pending.has(token)) this.send(token, pending);
        });
        return;
      default:
        this.settle(token, natsFault({ api_error: error }, 'appending'), 0);
    }
  }

  /** Compared and refused: unless the last record is this very append, whose first answer was lost. */
  private async confirm(token: string, { stream, append }: Pending): Promise<void> {
    try {
      const last = await this.jsm.streams.getMessage(stream.name, { last_by_subj: stream.subjects.owner });
      if (last.header.get('Nats-Msg-Id') === append.id) return this.settle(token, undefined, last.seq);
    } catch (error) {
      if (apiCode(error) !== API.noMessage) {
        // Whatever it is, the append is undecided as long as nobody has compared.
        return this.settle(token, undecided(natsFault(error, 'reading').message), 0);
      }
    }
    const expected = append.expectedOwner ?? 0;
    this.settle(
      token,
      new HubError(
        'aborted',
        `the last owner record of ${stream.name} is not ${expected}: another owner has written; let go of the shard`,
      ),
      0,
    );
  }

  private settle(token: string, error: HubError | undefined, sequence: number): void {
    const pending = this.pending.get(token);
    if (pending === undefined) return;
    this.pending.delete(token);
    pending.done(error, sequence);
    if (this.pending.size === 0) for (const resolve of this.whenIdle.splice(0)) resolve();
  }
}

function undecided(why: string): HubError {
  return new HubError('unavailable', `${why}; the append is undecided: retry it`, { retryAfterMs: 100 });
}

function forbidden(subject: string): HubError {
  return new HubError(
    'permission',
    `NATS forbids appending to ${subject}; give the user of the broker that permission`,
  );
}
