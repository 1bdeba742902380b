import { create, toBinary } from '@bufbuild/protobuf';
import { askedIn, awaitedIn, requesterOf } from '../broker/answers.ts';
import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import type { Codec, Done, Scoped } from '../broker/question.ts';
import { scoped } from '../broker/question.ts';
import type { BrokersQuestion, ShardQuestion } from '../broker/router.ts';
import { qualified } from '../core/namespace.ts';
import { Outcome } from '../core/shard-state.ts';
import { BROADCAST, checkAgentId } from '../core/shard.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { asBuffer, ByteWriter } from '../wire/bytes.ts';
import { MAX_ID_BYTES } from '../wire/envelope.ts';
import {
  answerOf,
  nativeProgress,
  nativeResult,
  outcomeOf,
  readProgress,
  readResult,
} from '../wire/eventbus.ts';
import { PublishResponseSchema } from '../wire/gen/eventbus/eventbus_pb.ts';
import { SpanReader } from '../wire/span-reader.ts';
import type { Admission } from './calls.ts';
import { promised } from './calls.ts';

/** `PublishResponse{success: true}`, serialized. */
export const SUCCESS = Buffer.of(0x08, 0x01);

/** How long other brokers have to take what is for everybody, in milliseconds. */
const FOR_ALL_MS = 2000;

/** What {@link Reports} are made of. */
export interface ReportsOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  /** The most bytes of a report. */
  readonly taskBytes: number;
  /** Nobody knows the task of that `PublishTaskResultRequest`: it is for all streams of its namespace at this broker. */
  readonly resultForAll: (namespace: string, request: Buffer) => void;
}

type Result = ReturnType<typeof readResult>;
type Progress = ReturnType<typeof readProgress>;

/** A report, and the mailbox of the task that it is taken for. */
interface Report<T> {
  readonly mailbox: string;
  /** A serialized request of the event bus, and what it says. */
  readonly request: Buffer;
  readonly said: T;
}

/** What became of a report. */
const Fate = { unknown: 0, taken: 1, late: 2 } as const;
type Fate = (typeof Fate)[keyof typeof Fate];

/**
 * Results and progress of agents that name the task and themselves instead of a lease. They are for the task
 * of that id in the executor's own mailbox, else for one that was delivered without a lease anywhere, else for
 * whoever listens.
 */
export class Reports {
  private readonly options: ReportsOptions;
  private readonly results: ShardQuestion<Report<Result>, Fate>;
  private readonly progresses: ShardQuestion<Report<Progress>, Fate>;
  private readonly awaiting: ShardQuestion<Scoped<string>, string>;
  private readonly strays: BrokersQuestion<Scoped<Buffer>, undefined>;

  constructor(options: ReportsOptions) {
    const { broker, resultForAll } = options;
    const { router } = broker;
    this.options = options;
    this.results = router.aboutShards(
      { name: 'ReportResult', request: reportOf(readResult), response: fate },
      false,
      (request, _shards, done) => this.resultHere(request, done),
    );
    this.progresses = router.aboutShards(
      { name: 'ReportProgress', request: reportOf(readProgress), response: fate },
      false,
      (request, _shards, done) => done(undefined, this.progressHere(request)),
    );
    this.awaiting = router.aboutShards(
      { name: 'AwaitedIn', request: scoped(text), response: text },
      true,
      ({ namespace, request: id }, shards, done) =>
        done(
          undefined,
          awaitedIn(
            shards.flatMap((shard) => broker.shards.owner(shard) ?? []),
            namespace,
            id,
          ) ?? '',
        ),
    );
    this.strays = router.toBrokers(
      { name: 'ResultForAll', request: scoped(bytes), response: nothing },
      ({ namespace, request }, done) => {
        resultForAll(namespace, request);
        done(undefined, undefined);
      },
    );
  }

  /** Takes an `eventbus.PublishTaskResultRequest`; answers with a serialized `PublishResponse`. */
  async result(request: Buffer, admission: Admission): Promise<Buffer> {
    const said = readResult(request);
    this.checkSize(said.bytes, 'result');
    const taken = await this.take(this.results, request, said, admission);
    const { namespace } = admission.names;
    if (taken === Fate.unknown) this.strays.ofEach({ namespace, request }, FOR_ALL_MS, () => {});
    return taken === Fate.late ? late() : SUCCESS;
  }

  /** Takes an `eventbus.PublishTaskProgressRequest`; answers with a serialized `PublishResponse`. */
  async progress(request: Buffer, admission: Admission): Promise<Buffer> {
    const { broker, clock } = this.options;
    const said = readProgress(request);
    this.checkSize(said.bytes, 'progress');
    const taken = await this.take(this.progresses, request, said, admission);
    if (taken === Fate.unknown) {
      // Says the namespace, whether there is an executor or not.
      const to = qualified(admission.names.namespace, said.message.executorAgentId);
      const by = { to, requester: '', now: clock.now() };
      const stray = nativeProgress(said, by);
      broker.progress.passToAll(admission.names.namespace, stray);
    }
    return SUCCESS;
  }

  /**
   * Brings a report to the broker that serves its task, if that is the executor's to report on; `unknown` if none
   * does. Throws HubError `permission` if the executor is somebody else, and `not_found` for an unknown task if it
   * is not allowed to tell everybody.
   */
  private async take<T extends Result | Progress>(
    question: ShardQuestion<Report<T>, Fate>,
    request: Buffer,
    said: T,
    admission: Admission,
  ): Promise<Fate> {
    const { taskId: id, executorAgentId } = said.message;
    const executor = admission.names.enter(executorAgentId, 'executor_agent_id');
    const rights = admission.judged();
    if (rights.limited) admission.require({ does: 'be', to: executor }, 'executor_agent_id');
    const taken = await this.takeFrom(question, request, said, admission);
    if (taken !== Fate.unknown || rights.reaches(BROADCAST)) return taken;
    throw new HubError('not_found', `there is no task ${id} that ${executor} could report on`, {
      field: 'task_id',
    });
  }

  private async takeFrom<T extends Result | Progress>(
    question: ShardQuestion<Report<T>, Fate>,
    request: Buffer,
    said: T,
    admission: Admission,
  ): Promise<Fate> {
    const { broker } = this.options;
    const { names } = admission;
    const rights = admission.judged();
    const { taskId: id, executorAgentId: executor } = said.message;
    if (Buffer.byteLength(id) > MAX_ID_BYTES) return Fate.unknown;
    const ask = (mailbox: string): Promise<Fate> =>
      promised((done) => question.ofShard(broker.shardOf(mailbox), { mailbox, request, said }, done));
    if (isAgentId(executor)) {
      const taken = await ask(names.enter(executor, 'executor_agent_id'));
      if (taken !== Fate.unknown) return taken;
    }
    const found = (mailbox: string): boolean => mailbox !== '' && rights.owns(mailbox);
    const asked = { namespace: names.namespace, request: id };
    const mailboxes = await promised<readonly string[]>((done) => this.awaiting.ofAll(asked, done, found));
    const mailbox = mailboxes.find(found);
    return mailbox === undefined ? Fate.unknown : ask(mailbox);
  }

  private resultHere({ mailbox, said: result }: Report<Result>, done: Done<Fate>): void {
    const { broker, clock } = this.options;
    const { taskId, executorAgentId: executor, status, errorMessage } = result.message;
    const asked = askedIn(broker, mailbox, taskId);
    const outcome = outcomeOf(status);
    if (!asked) return done(undefined, Fate.unknown);
    // The same end again is none the worse.
    const again = asked.state === 'ended' && asked.outcome === outcome && outcome !== 0;
    if (asked.state === 'ended') return done(undefined, again ? Fate.taken : Fate.late);
    const { owner } = asked;
    const { origin, requester, ...task } = requesterOf(asked)!;
    const durable = (): void => done(undefined, Fate.taken);
    if (asked.state === 'awaited' || outcome === 0) {
      if (requester === '') return durable();
      const awaited = {
        mailbox: task.to,
        type: task.type,
        requester: origin === '' ? requester : `${requester}#${origin}`,
      };
      const native = nativeResult(result, { ...task, requester, now: clock.now() });
      return owner.resolve(taskId, awaited, outcome, native, durable);
    }
    const by = { executor, payload: answerOf(result.bytes) };
    const inTime =
      outcome === Outcome.cancelled
        ? owner.cancel(asked.slot, errorMessage, durable)
        : owner.answer(asked.slot, outcome === Outcome.succeeded, errorMessage, by, durable);
    if (!inTime) done(undefined, Fate.late);
  }

  private progressHere({ mailbox, said: progress }: Report<Progress>): Fate {
    const { broker, clock } = this.options;
    const asked = askedIn(broker, mailbox, progress.message.taskId);
    if (!asked) return Fate.unknown;
    const by = requesterOf(asked);
    if (by) broker.progress.pass(nativeProgress(progress, { ...by, now: clock.now() }), by.origin);
    return Fate.taken;
  }

  private checkSize(bytesOf: Buffer, name: string): void {
    const { taskBytes } = this.options;
    if (bytesOf.length <= taskBytes) return;
    throw limit(
      'limits.taskBytes',
      `the ${name} has ${bytesOf.length} bytes; at most ${taskBytes} are accepted`,
    );
  }
}

function late(): Buffer {
  const error = 'the task has ended before; this result was not kept';
  return asBuffer(toBinary(PublishResponseSchema, create(PublishResponseSchema, { success: false, error })));
}

function isAgentId(name: string): boolean {
  try {
    checkAgentId(name, 'executor');
    return true;
  } catch {
    return false;
  }
}

function reportOf<T>(read: (request: Buffer) => T): Codec<Report<T>> {
  return {
    write({ mailbox, request }) {
      const writer = new ByteWriter(mailbox.length + request.length + 16);
      writer.longText(mailbox);
      writer.bytes(request);
      return writer.take();
    },
    read(written) {
      const reader = new SpanReader('a report from another broker');
      reader.open(written, 0, written.length);
      const mailbox = reader.longText();
      const request = written.subarray(reader.at);
      return { mailbox, request, said: read(request) };
    },
  };
}

const fate: Codec<Fate> = {
  write: (value) => Buffer.of(value),
  read: ([value]) => (value === Fate.taken || value === Fate.late ? value : Fate.unknown),
};
const text: Codec<string> = { write: (value) => Buffer.from(value), read: (written) => written.toString() };
const bytes: Codec<Buffer> = { write: (value) => value, read: (written) => written };
const nothing: Codec<undefined> = { write: () => Buffer.alloc(0), read: () => undefined };
