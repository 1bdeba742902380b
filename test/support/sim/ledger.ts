import { Outcome } from '../../../src/core/shard-state.ts';
import type { Clock } from '../../../src/std/clock.ts';
import { TaskState } from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { Refusal, ServerFrame, Welcome } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { Result } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Lease, LEASE_BYTES } from '../../../src/wire/lease.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import type { Observer, SimConnection } from './connection.ts';
import type { Decision } from './decisions.ts';
import type { ClientFrame, Delivered, Event, Saying, Settling } from './frames.ts';
import { leaseBytes, leaseName, leaseText } from './frames.ts';

/** A broken promise. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

/** What the ledger of a cluster is told of what lies between clients and owners; by default nothing does. */
export interface Between {
  /** The former owner of the shard has decided that; by now there is another one. */
  isVoid(decision: Decision): boolean;
  /** Whether a holder that is connected to that broker may be taken for lost, in spite of being well, since then. */
  mayDoubt(edge: string, shard: number, since: number): boolean;
  /** Nothing has been wrong anywhere since then. */
  wasCalm(since: number): boolean;
  /** How late a client's words may reach an owner, and the owner's the client, in milliseconds. */
  readonly lagMs: number;
  /** How much the clocks of brokers differ at most, in milliseconds. */
  readonly skewMs: number;
}

const NOTHING_BETWEEN: Between = {
  isVoid: () => false,
  mayDoubt: () => false,
  wasCalm: () => true,
  lagMs: 0,
  skewMs: 0,
};

/** What a former connection says counts nevertheless at a broker that has not heard of the later one. */
const COUNTS = new Set<Saying['kind']>(['publish', 'settle', 'cancel']);

export interface LedgerOptions {
  readonly between?: Between;
  readonly clock: Clock;
  readonly maxAttempts: number;
  readonly backoffInitialMs: number;
  readonly backoffMaxMs: number;
  /** A task, result or dead letter may vanish because its time was up. */
  readonly shortRetention: boolean;
  /** The `agenthub.v1.Durability` that acks must name. */
  readonly durability: number;
  readonly trace: (line: () => string) => void;
}

/** A result of a task, by its name in the log. */
interface SeenResult {
  readonly outcome: number;
  readonly finishedAtMs: bigint;
  received: boolean;
}

/** What is known of one task from outside: what was asked of the broker, and what it has said. */
export class Story {
  readonly fields: TaskFields;
  /** A broadcast's copy for one mailbox. */
  readonly copy: boolean;
  /** Batches that carried it, and those that told its publisher for certain that it was refused. */
  tries = 0;
  refusals = 0;
  /** When it was heard first. */
  heardAt = Infinity;
  /** Where it was heard and is not answered yet: session and batch. */
  readonly open = new Set<string>();
  /** Its publisher has an ack, or the broker has written one. */
  acked = false;
  /** When it was acknowledged first. */
  ackedAt = Infinity;
  /** Its one name in the log. */
  name = '';
  deliveries = 0;
  /** The number of the last delivery that an owner must know of. */
  lastDelivery = 0;
  /** Failures that count, accepted by the broker, since it was last revived. */
  failures = 0;
  /** It can't be due again before. */
  notBefore = 0;
  /** Answers that workers have given. */
  readonly answers = new Set<string>();
  completed = false;
  rejected = false;
  cancelAsked = false;
  cancelled = false;
  purgeAsked = false;
  revivals = 0;
  revivedAt = -Infinity;
  /** A copy went to a listener, which may have ended it. */
  copied = false;
  /** Broadcasts: mailboxes that must get a copy. */
  reaches: readonly string[] = [];
  readonly results = new Map<string, SeenResult>();

  constructor(fields: TaskFields, copy: boolean) {
    this.fields = fields;
    this.copy = copy;
  }

  get id(): string {
    return this.fields.id;
  }

  /** All who tried to publish it were told that it was refused. */
  get refused(): boolean {
    return this.tries > 0 && this.refusals === this.tries;
  }
}

/** A lease in the hands of a session. */
interface Holding {
  readonly lease: string;
  readonly session: string;
  readonly mailbox: string;
  /** Whose credit it takes; 0: nobody's, its attachment has gone. */
  attachment: number;
  readonly since: number;
  /** Its connection, while the broker has no reason to doubt it. */
  connection: SimConnection | undefined;
  /** When the holder has listed it last. */
  listedAt: number;
}

/** What a session has subscribed to. */
interface Attached {
  readonly listener: boolean;
  window: number;
  /** The largest window before, which counts for what was decided until the owner has heard; `Infinity`: adaptive. */
  former: number;
  changedAt: number;
  readonly since: number;
}

/** A session as the broker has heard it. */
interface Known {
  /** Where it was connected last. */
  broker: string;
  readonly attachments: Map<number, Attached>;
  /** By attachment, also those that are gone. */
  readonly mailboxes: Map<number, string>;
  /** Batches of settlements, and when each was heard first. */
  readonly settles: Map<number, { readonly items: readonly Settling[]; readonly at: number }>;
  readonly publishes: Map<number, readonly string[]>;
  readonly cancels: Map<number, { story: Story; acked: boolean }>;
  listAskedAt: number;
  incarnation: number;
  connection: SimConnection | undefined;
}

/**
 * Watches what passes between the broker and all its clients, at the broker's end, and holds it
 * against what was promised. It knows nothing of how the broker works.
 */
export class Ledger implements Observer {
  readonly stories = new Map<string, Story>();
  private readonly byNonce = new Map<string, Story>();
  private readonly options: LedgerOptions;
  private readonly sessions = new Map<string, Known>();
  private readonly hellos = new Map<SimConnection, readonly Saying[]>();
  /** Who holds what, by the name of the task. */
  private readonly holdings = new Map<string, Holding>();
  /** Names of tasks and results that were completed. */
  private readonly done = new Set<string>();
  /** Attachments that have got something in this frame. */
  private readonly crediting = new Set<number>();
  /** All leases that the broker has ever given away. */
  private readonly issued = new Set<string>();
  /** Stories of tasks by their names in the log, and of what results tell of by theirs. */
  private readonly named = new Map<string, Story>();
  /** First deliveries of each mailbox and priority: the last before this moment, and now, by session. */
  private readonly firsts = new Map<
    string,
    { before: number; at: number; readonly last: Map<string, number> }
  >();
  /** Mailboxes that a listener has been attached to: a copy may have ended a task, and got lost. */
  private readonly listened = new Set<string>();
  /** Mailboxes in which a task may be passed over for one behind it. */
  readonly unordered = new Set<string>();
  private backAt = Infinity;
  /** What went wrong first, also if somebody has caught it. */
  broken: Error | undefined;
  readonly counts = new Map<string, number>();
  private readonly between: Between;
  /** Leases that nobody was to give. */
  private readonly voids = new Set<string>();

  constructor(options: LedgerOptions) {
    this.options = options;
    this.between = options.between ?? NOTHING_BETWEEN;
  }

  // ── What publishers mean ─────────────────────────────────────────────────────────────────────

  /** A publisher is about to send this. */
  tries(fields: TaskFields, nonce: string): void {
    const key = keyOf(fields.to, fields.id === '' ? `?${nonce}` : fields.id);
    let story = this.stories.get(key);
    if (!story) this.stories.set(key, (story = new Story(fields, false)));
    this.byNonce.set(nonce, story);
    story.tries++;
  }

  story(nonce: string): Story {
    return must(this.byNonce.get(nonce), 'a task that nobody has published');
  }

  /** What is published without a session has got to the broker. */
  got(nonce: string): void {
    const story = this.story(nonce);
    story.heardAt = Math.min(story.heardAt, this.now);
  }

  /** A publisher has got the answer to the batch in which it sent this. */
  answered(nonce: string, refusal: Refusal | undefined): void {
    const story = this.story(nonce);
    if (refusal) {
      if (isDefinite(refusal)) story.refusals++;
    } else this.acknowledged(story);
  }

  private acknowledged(story: Story): void {
    if (!story.acked) story.ackedAt = this.options.clock.now();
    story.acked = true;
    this.count('acked');
  }

  // ── What the broker hears ────────────────────────────────────────────────────────────────────

  opened(connection: SimConnection): void {
    this.hellos.set(connection, []);
  }

  heard(connection: SimConnection, frame: ClientFrame): void {
    this.guard(() => this.hear(connection, frame));
  }

  said(connection: SimConnection, events: readonly Event[]): void {
    this.guard(() => this.say(connection, events));
  }

  /** The broker answers errors; one of the ledger's must not be lost like that. */
  private guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.broken ??= error as Error;
      throw error;
    }
  }

  private hear(connection: SimConnection, frame: ClientFrame): void {
    if (connection.abandoned) this.belated(frame);
    const { trace } = this.options;
    trace(() => `${connection.client} → ${frame.says.map(describe).join(', ')}`);
    const first = this.hellos.get(connection);
    if (connection.session === '' && first) {
      // Its session is known when the broker says welcome.
      this.hellos.set(connection, [...first, ...frame.says]);
      return;
    }
    const known = this.sessions.get(connection.session);
    if (!known) return;
    // What a former connection says is void.
    if (known.connection !== connection) return this.takeLate(connection.session, known, frame.says);
    for (const saying of frame.says) this.take(connection.session, known, saying);
  }

  private takeLate(session: string, known: Known, says: readonly Saying[]): void {
    if (this.between.lagMs === 0) return;
    for (const saying of says) if (COUNTS.has(saying.kind)) this.take(session, known, saying);
  }

  /** Its publisher has said it again since, and may have been told that it was refused. */
  private belated({ says }: ClientFrame): void {
    for (const saying of says) {
      if (saying.kind !== 'publish') continue;
      for (const nonce of saying.nonces) this.story(nonce).tries++;
    }
  }

  private take(session: string, known: Known, saying: Saying): void {
    switch (saying.kind) {
      case 'attach': {
        const { attachment, mailbox, window, listener } = saying;
        known.mailboxes.set(attachment, mailbox);
        if (listener) this.listened.add(mailbox);
        if (known.attachments.has(attachment)) {
          this.resized(known, attachment, window);
          return;
        }
        known.attachments.set(attachment, {
          listener,
          window,
          former: window,
          changedAt: 0,
          since: this.now,
        });
        for (const holding of listener ? [] : this.holdings.values()) {
          if (holding.session === session && holding.attachment === 0 && holding.mailbox === mailbox)
            holding.attachment = attachment;
        }
        return;
      }
      case 'detach':
        known.attachments.delete(saying.attachment);
        for (const holding of this.holdings.values()) {
          if (holding.session === session && holding.attachment === saying.attachment) holding.attachment = 0;
        }
        return;
      case 'window':
        this.resized(known, saying.attachment, saying.window);
        return;
      case 'publish':
        known.publishes.set(saying.batch, saying.nonces);
        for (const nonce of saying.nonces) {
          const story = this.story(nonce);
          story.heardAt = Math.min(story.heardAt, this.now);
          story.open.add(`${known.broker} ${session} ${saying.batch}`);
        }
        return;
      case 'settle':
        if (!known.settles.has(saying.batch))
          known.settles.set(saying.batch, { items: saying.items, at: this.now });
        for (const item of saying.items) this.settling(item);
        return;
      case 'cancel': {
        const story = must(this.stories.get(keyOf(saying.to, saying.id)), 'cancelled tasks are known');
        story.cancelAsked = true;
        known.cancels.set(saying.call, { story, acked: this.now - story.ackedAt >= this.between.lagMs });
        return;
      }
      case 'inFlight': {
        const listed = new Set(saying.leases);
        for (const [name, { session: holder, lease, since }] of this.holdings) {
          if (holder === session && since < known.listAskedAt && !listed.has(lease))
            this.holdings.delete(name);
        }
        return;
      }
      case 'goodbye':
        known.attachments.clear();
        for (const [name, holding] of this.holdings)
          if (holding.session === session) this.holdings.delete(name);
        return;
      default:
    }
  }

  private resized(known: Known, number: number, window: number): void {
    const attachment = known.attachments.get(number);
    if (!attachment || attachment.window === window) return;
    const before = attachment.window || Infinity;
    const recent = this.now - attachment.changedAt <= this.between.lagMs;
    attachment.former = recent ? Math.max(before, attachment.former) : before;
    attachment.window = window;
    attachment.changedAt = this.now;
  }

  private settling({ lease, verdict, text }: Settling): void {
    const name = leaseName(lease);
    const story = this.named.get(name);
    if (story?.name === name && verdict === 'completed') story.answers.add(text);
    if (story?.name === name && verdict === 'rejected') story.rejected = true;
    const holding = this.holdings.get(name);
    if (holding && (holding.lease === lease || verdict === 'completed')) this.holdings.delete(name);
  }

  // ── What the broker says ─────────────────────────────────────────────────────────────────────

  private say(connection: SimConnection, events: readonly Event[]): void {
    this.options.trace(() => `${connection.client} ← ${events.map(describeEvent).join(', ')}`);
    for (const event of events) {
      if (event.kind === 'control') this.control(connection, event.frame);
      else if (connection.session === '') throw new Broken('the broker speaks before it says welcome');
      else if (event.kind === 'delivery') this.delivered(connection, event.delivered);
      else if (event.kind === 'published') {
        const { batch, refused, durability } = event.ack;
        if (Number(durability) !== this.options.durability)
          throw new Broken(`an ack of durability ${durability}`);
        refuseInternal(refused);
        const nonces = this.known(connection).publishes.get(Number(batch));
        if (!nonces) throw new Broken(`an ack for batch ${batch}, which was not published`);
        nonces.forEach((nonce, index) => {
          const story = this.story(nonce);
          story.open.delete(`${connection.broker} ${connection.session} ${batch}`);
          if (!refused.some((refusal) => refusal.index === index)) this.accepted(story);
          // The broker can't know what becomes of the others.
          else if (story.open.size > 0) story.tries++;
        });
      } else {
        const { batch, refused } = event.ack;
        refuseInternal(refused);
        const settle = this.known(connection).settles.get(Number(batch));
        if (!settle) throw new Broken(`an ack for settlements ${batch}, which were not said`);
        settle.items.forEach((item, index) => {
          if (!refused.some((refusal) => refusal.index === index)) this.settled(item, settle.at);
        });
      }
    }
    this.checkCredits(connection);
  }

  private accepted(story: Story): void {
    // Said again, it reaches those whom it reached the first time.
    const since = story.heardAt - this.between.lagMs;
    if (story.fields.to === '*' && !story.acked && this.between.wasCalm(since))
      story.reaches = this.attachedAgents(since);
    this.acknowledged(story);
  }

  /** Mailboxes of agents that somebody has been attached to since before that time. */
  private attachedAgents(before: number): string[] {
    const names = new Set<string>();
    for (const { attachments, mailboxes, connection } of this.sessions.values()) {
      if (!connection?.open) continue;
      for (const [number, { since }] of attachments) {
        const mailbox = mailboxes.get(number)!;
        if (since < before && !mailbox.includes(':')) names.add(mailbox);
      }
    }
    return [...names];
  }

  private control(connection: SimConnection, frame: ServerFrame): void {
    const { now } = this;
    if (frame.welcome) this.welcomed(connection, frame.welcome);
    const known = this.known(connection);
    for (const { lease } of frame.abort) this.aborted(connection, leaseText(lease));
    for (const { call, outcome } of frame.cancel) {
      const cancel = must(known.cancels.get(Number(call)), 'an answer to a cancel call that was not made');
      this.cancelAnswered(cancel, outcome);
    }
    for (const { attachment, refusal } of frame.attached) if (refusal) known.attachments.delete(attachment);
    if (frame.listInFlight) known.listAskedAt = now;
  }

  private welcomed(connection: SimConnection, welcome: Welcome): void {
    const says = must(this.hellos.get(connection), 'welcome is said once');
    this.hellos.delete(connection);
    const hello = must(
      says.find((saying) => saying.kind === 'hello'),
      'welcome answers hello',
    );
    connection.session = welcome.sessionId;
    if (welcome.resumed && welcome.sessionId !== hello.sessionId)
      throw new Broken('another session was resumed');
    let known = this.sessions.get(welcome.sessionId);
    if (!known) {
      known = {
        attachments: new Map(),
        mailboxes: new Map(),
        settles: new Map(),
        publishes: new Map(),
        cancels: new Map(),
        listAskedAt: 0,
        incarnation: 0,
        connection,
        broker: connection.broker,
      };
      this.sessions.set(welcome.sessionId, known);
    }
    if (hello.incarnation <= known.incarnation) {
      // Another broker may not have heard of it yet.
      if (connection.broker !== known.broker) return this.takeLate(welcome.sessionId, known, says);
      throw new Broken('an incarnation that was replaced is accepted');
    }
    if (connection.broker !== known.broker) {
      known.broker = connection.broker;
      this.unseat(welcome.sessionId, known);
    }
    known.incarnation = hello.incarnation;
    known.connection = connection;
    const listed = new Set(hello.inFlight);
    for (const [name, holding] of this.holdings) {
      if (holding.session !== welcome.sessionId) continue;
      if (welcome.resumed && listed.has(holding.lease)) {
        holding.connection = connection;
        holding.listedAt = this.now;
      } else this.holdings.delete(name);
    }
    for (const saying of says) this.take(welcome.sessionId, known, saying);
  }

  /** A broker that has not seen the session before, or has died, knows nothing of its attachments. */
  private unseat(session: string, { attachments }: Known): void {
    attachments.clear();
    for (const holding of this.holdings.values()) if (holding.session === session) holding.attachment = 0;
  }

  private delivered(connection: SimConnection, delivered: Delivered): void {
    this.count(delivered.result ? 'results' : 'tasks');
    const known = this.known(connection);
    const attachment = known.attachments.get(delivered.attachment);
    const mailbox = must(known.mailboxes.get(delivered.attachment), 'deliveries name an attachment');
    const { task, result, lease, name } = delivered;
    this.issued.add(lease);
    if (lease === '') {
      if (attachment && !attachment.listener) throw new Broken('a worker got a copy without a lease');
      if (task) this.storyOf(task, mailbox).copied = true;
      if (result) this.resultSeen(result, `copy ${result.finishedAtMs}`).received = true;
      return;
    }
    if (task) {
      const { to, id } = this.storyOf(task, mailbox).fields;
      if (mailbox !== to) throw new Broken(`${to} ${id} (${name}) is delivered to ${mailbox}`);
    }
    if (result) {
      if (mailbox !== `reply:${result.requester}`) throw new Broken('a result for somebody else');
      this.named.set(name, this.storyOfResult(result));
      this.resultSeen(result, name).received = true;
    }
    // It has gone on elsewhere, or the lease was given by one who was not the owner any more.
    if (known.connection !== connection || this.voids.has(lease)) return;
    const holding = this.holdings.get(name);
    // What it has listed in this moment the broker may have found to be void.
    // One that has run too long may go to another before its holder is told, who is elsewhere.
    const late = this.between.lagMs > 0 && (task?.maxRunMs ?? 0) > 0;
    if (holding && !late && this.isSure(holding) && !this.mayDoubt(holding, delivered.shard)) {
      throw new Broken(
        `${name} is given to ${connection.session} while ${holding.session} is well and holds it`,
      );
    }
    this.holdings.set(name, {
      lease,
      session: connection.session,
      // A lane's results are nobody's once their attachment has gone.
      mailbox: result ? '' : mailbox,
      // Nor does an owner know by which attachment they were given when a link to it opens anew.
      attachment: result && this.between.lagMs > 0 ? 0 : delivered.attachment,
      since: this.now,
      connection,
      listedAt: 0,
    });
    this.crediting.add(delivered.attachment);
  }

  /** Whether the broker has no reason to doubt that holder, nor is on its way of telling it something. */
  private isSure({ connection, listedAt }: Holding): boolean {
    return connection?.open === true && !connection.congested && this.now - listedAt > this.between.lagMs;
  }

  private mayDoubt({ connection, since }: Holding, shard: number): boolean {
    return this.between.mayDoubt(connection!.broker, shard, since);
  }

  /** An owner has decided who is to get a task next. */
  gave(decision: Decision): void {
    this.guard(() => {
      const { name, task, mailbox } = decision;
      this.issued.add(decision.lease);
      if (this.between.isVoid(decision)) {
        this.voids.add(decision.lease);
        this.count('void');
        if (this.done.has(name)) this.count('void, and done');
        if (task) {
          const story = this.storyOf(task, mailbox);
          story.deliveries++;
          // Who gets it may complete it: any token that was ever issued will do.
          if (story.name === '') story.name = name;
          this.named.set(name, story);
        }
        return;
      }
      if (this.done.has(name)) throw new Broken(`${name} was done, and is delivered again`);
      if (task) this.taskGiven(this.storyOf(task, mailbox), decision);
    });
  }

  private taskGiven(story: Story, { name, attempt, order, delivery, mailbox, session }: Decision): void {
    const { now } = this;
    const { maxAttempts, clock } = this.options;
    const { fields } = story;
    const what = `${fields.to} ${fields.id} (${name})`;
    const first = story.name === '';
    if (!first && story.name !== name)
      throw new Broken(`${what} was accepted twice: it was ${story.name} before`);
    story.name = name;
    this.named.set(name, story);
    if (story.refused) throw new Broken(`${what} was refused, and is delivered`);
    if (story.cancelled) throw new Broken(`${what} was cancelled, and is delivered`);
    const revived = story.revivals > 0;
    const { skewMs } = this.between;
    if (fields.deadlineMs > 0 && fields.deadlineMs + skewMs <= clock.now() && !revived) {
      throw new Broken(`${what} is delivered ${clock.now() - fields.deadlineMs} ms after its deadline`);
    }
    if (fields.notBeforeMs > now + skewMs && !revived)
      throw new Broken(`${what} is delivered before its time`);
    if (story.notBefore > now + 1 + skewMs)
      throw new Broken(`${what} is delivered ${story.notBefore - now} ms before its back-off is over`);
    const most = story.copy ? 1 : fields.maxAttempts || maxAttempts;
    if (attempt > most) throw new Broken(`${what} is delivered as attempt ${attempt} of ${most}`);
    if (attempt <= story.failures)
      throw new Broken(`${what} has failed ${story.failures} times, and is delivered as attempt ${attempt}`);
    if (attempt > story.deliveries + 1)
      throw new Broken(
        `${what} was delivered ${story.deliveries} times, and is delivered as attempt ${attempt}`,
      );
    if (delivery <= story.lastDelivery)
      throw new Broken(`${what} is delivered as number ${delivery}, which was given before`);
    story.lastDelivery = delivery;
    story.deliveries++;
    if (!first || delivery > 1 || revived || fields.notBeforeMs > 0 || this.unordered.has(mailbox)) return;
    this.inOrder(what, `${mailbox} ${fields.priority || 2}`, session, order);
  }

  /** First deliveries are in order; what is decided in one moment for several sessions leaves in any. */
  private inOrder(what: string, queue: string, session: string, order: number): void {
    const { now } = this;
    let firsts = this.firsts.get(queue);
    if (!firsts) this.firsts.set(queue, (firsts = { before: -1, at: now, last: new Map() }));
    if (firsts.at < now) {
      firsts.before = Math.max(firsts.before, ...firsts.last.values());
      firsts.last.clear();
      firsts.at = now;
    }
    if (order < firsts.before || order < (firsts.last.get(session) ?? -1)) {
      throw new Broken(`${what} is delivered after one that was accepted later`);
    }
    firsts.last.set(session, order);
  }

  /** No attachment that has just got something holds more than it wants. */
  private checkCredits({ session }: SimConnection): void {
    for (const attachment of this.crediting) {
      const attached = this.sessions.get(session)?.attachments.get(attachment);
      if (attached) this.checkCredit(session, attachment, attached);
    }
    this.crediting.clear();
  }

  private checkCredit(session: string, attachment: number, attached: Attached): void {
    const window =
      this.now - attached.changedAt <= this.between.lagMs
        ? Math.max(attached.window, attached.former)
        : attached.window;
    if (window === 0) return;
    let held = 0;
    for (const holding of this.holdings.values()) {
      if (holding.session === session && holding.attachment === attachment && holding.connection?.open)
        held++;
    }
    if (held > window)
      throw new Broken(
        `attachment ${attachment} of ${session} holds ${held} tasks with a window of ${window}`,
      );
  }

  private aborted(connection: SimConnection, lease: string): void {
    const name = leaseName(lease);
    const holding = this.holdings.get(name);
    const story = this.named.get(name);
    if (!this.issued.has(lease)) throw new Broken(`an abort of a lease that nobody was given (${name})`);
    if (holding?.session !== connection.session || this.known(connection).connection !== connection) return;
    this.holdings.delete(name);
    const reason =
      !holding.connection?.open ||
      this.now - holding.listedAt <= this.between.lagMs ||
      this.mayDoubt(holding, shardOfLease(lease)) ||
      story?.name !== name ||
      story.cancelAsked ||
      story.fields.maxRunMs > 0 ||
      story.answers.size > 0 ||
      holding.lease !== lease;
    if (!reason)
      throw new Broken(`the lease of ${name} was taken from ${connection.session} without a reason`);
  }

  private settled({ lease, verdict, retryAfterMs }: Settling, heardAt: number): void {
    const { backoffInitialMs, backoffMaxMs } = this.options;
    const name = leaseName(lease);
    const story = this.named.get(name);
    if (verdict === 'completed') {
      if (this.done.has(name)) throw new Broken(`${name} was completed twice`);
      this.done.add(name);
      this.count('completed');
    }
    if (!story || story.name !== name) return;
    if (verdict === 'completed') {
      story.completed = true;
      if (story.cancelled) throw new Broken(`${name} was cancelled, and then completed`);
    } else if (verdict === 'failed' && story.revivedAt < heardAt) {
      story.failures++;
      const least = Math.min(story.fields.backoffMs || backoffInitialMs, backoffMaxMs) / 2;
      story.notBefore = heardAt + (retryAfterMs || least);
    }
  }

  private cancelAnswered({ story, acked }: { story: Story; acked: boolean }, outcome: CancelOutcome): void {
    const { fields, name } = story;
    const what = `${fields.to} ${fields.id} (${name})`;
    if (outcome === CancelOutcome.CANCELLED) {
      this.count('cancelled');
      if (story.completed) throw new Broken(`${what} was completed, and then cancelled`);
      story.cancelled = true;
      const holding = this.holdings.get(name);
      if (holding && this.isSure(holding) && this.between.lagMs === 0) {
        throw new Broken(`${what} was cancelled, and ${holding.session}, which works on it, was not told`);
      }
    } else if (outcome === CancelOutcome.TOO_LATE) {
      if (!this.mayHaveEnded(story)) throw new Broken(`${what} can't be cancelled, and nothing has ended it`);
    } else if (
      outcome === CancelOutcome.NOT_FOUND &&
      acked &&
      // Who has slept may answer before it learns that it is not the owner any more.
      this.between.wasCalm(this.now - this.between.lagMs) &&
      !this.options.shortRetention &&
      !story.purgeAsked
    ) {
      throw new Broken(`${what} was acknowledged, and is not known`);
    }
  }

  /** Whether something has happened that can end a task, or make a dead letter of it. */
  private mayHaveEnded(story: Story): boolean {
    const { answers, cancelAsked, purgeAsked, fields } = story;
    const asked = answers.size > 0 || cancelAsked || purgeAsked;
    return asked || this.listened.has(fields.to) || this.mayHaveDied(story);
  }

  /** Whether the broker may have given up on it. */
  private mayHaveDied({ fields, rejected, deliveries, copy }: Story): boolean {
    const { maxAttempts, shortRetention } = this.options;
    return (
      shortRetention ||
      rejected ||
      (fields.deadlineMs > 0 && fields.deadlineMs - this.between.skewMs <= this.now) ||
      deliveries >= (copy ? 1 : fields.maxAttempts || maxAttempts)
    );
  }

  private resultSeen(result: Result, name: string): SeenResult {
    const story = this.storyOfResult(result);
    const { fields, results } = story;
    const what = `the result of ${fields.to} ${fields.id}`;
    const { outcome, finishedAtMs, payload } = result;
    let seen = results.get(name);
    if (seen && (seen.outcome !== Number(outcome) || seen.finishedAtMs !== finishedAtMs))
      throw new Broken(`${what} has changed`);
    if (!seen) results.set(name, (seen = { outcome, finishedAtMs, received: false }));
    const finished = new Set([...results.values()].map((each) => each.finishedAtMs));
    const distinct = [...results.keys()].filter((key) => !key.startsWith('copy')).length;
    if (Math.max(distinct, finished.size) > 1 + story.revivals)
      throw new Broken(`${what} was sent ${results.size} times`);
    if (story.refused) throw new Broken(`${what} has come, and the task was refused`);
    if (outcome === Number(Outcome.succeeded)) {
      const text = Buffer.from(payload).toString();
      if (!story.answers.has(text)) throw new Broken(`${what} is "${text}", which no worker has said`);
      if (story.cancelled) throw new Broken(`${what} says that it succeeded, and it was cancelled`);
    } else if (story.completed) {
      if (outcome === Number(Outcome.cancelled) || story.revivals === 0) {
        throw new Broken(`${what} says ${outcome}, and its completion was accepted`);
      }
    } else if (outcome === Number(Outcome.cancelled)) {
      if (!story.cancelAsked) throw new Broken(`${what} says that it was cancelled, which nobody asked for`);
    } else if (!this.mayHaveDied(story))
      throw new Broken(`${what} says ${outcome}: there was no reason to give up`);
    return seen;
  }

  // ── What happens to connections ──────────────────────────────────────────────────────────────

  ended(connection: SimConnection): void {
    this.options.trace(() => `${connection.client} ⊣`);
    this.hellos.delete(connection);
    for (const holding of this.holdings.values())
      if (holding.connection === connection) holding.connection = undefined;
  }

  /** What the broker shows of a task now; `undefined`: it does not know it. */
  looked(story: Story, state: TaskState | undefined): void {
    const { fields, acked, purgeAsked } = story;
    const what = `${fields.to} ${fields.id} (${story.name})`;
    if (state === undefined) {
      if (acked && !purgeAsked) throw new Broken(`${what} was acknowledged, and is not known`);
    } else if (story.refused) throw new Broken(`${what} was refused, and is there`);
    else if (!this.mayBe(story, state))
      throw new Broken(`${what} is ${nameOf(state)}, and nothing has led to it`);
  }

  /** Whether what has happened can have led to that state. */
  private mayBe(story: Story, state: TaskState): boolean {
    const { completed, cancelled, answers, cancelAsked, purgeAsked, copy, fields } = story;
    switch (state) {
      case TaskState.QUEUED:
      case TaskState.DELAYED:
      case TaskState.RUNNING:
        return !completed && !cancelled;
      case TaskState.DEAD:
        return !completed && !cancelled && this.mayHaveDied(story);
      case TaskState.SUCCEEDED:
        return !cancelled && answers.size > 0;
      case TaskState.CANCELLED:
        // So is what was purged.
        return !completed && (cancelAsked || purgeAsked || this.options.shortRetention);
      case TaskState.EXPIRED:
      case TaskState.FAILED:
        return !completed && !cancelled && (copy || this.mayHaveDied(story));
      case TaskState.DELIVERED:
        return !completed && !cancelled && this.listened.has(fields.to);
      default:
        return this.mayHaveEnded(story);
    }
  }

  find(mailbox: string, id: string): Story {
    const story = this.stories.get(keyOf(mailbox, id));
    if (story) return story;
    return this.copyOf(must(this.stories.get(keyOf('*', id)), `${mailbox} ${id} was not published`), mailbox);
  }

  /** A broadcast has reached all that were attached when it was acknowledged. */
  closeBroadcast({ id, fields, reaches }: Story): void {
    if (fields.deadlineMs > 0 || this.options.shortRetention) return;
    for (const mailbox of reaches) {
      const copy = this.stories.get(keyOf(mailbox, id));
      if (copy?.copied || copy?.name) continue;
      throw new Broken(`the broadcast ${id} was acknowledged, and has not reached ${mailbox}`);
    }
  }

  /** How a task is left when all is done: everything that was promised of it must have come. */
  close(story: Story, state: TaskState | undefined): void {
    const { fields, results } = story;
    const what = `${fields.to} ${fields.id} (${story.name})`;
    this.looked(story, state);
    if (state === undefined) {
      if (story.name !== '' && !story.purgeAsked) throw new Broken(`${what} was delivered, and is not known`);
      return;
    }
    if (fields.requester === '' || this.options.shortRetention || story.purgeAsked) return;
    // How a task ended may be forgotten, and so may what was copied to a listener that went.
    const copied =
      this.listened.has(`reply:${fields.requester}`) ||
      state === TaskState.DELIVERED ||
      (state === TaskState.FINISHED && this.listened.has(fields.to));
    if (!copied && results.size === 0)
      throw new Broken(`${what} is ${nameOf(state)}, and its requester was not told`);
  }

  /** Who is to be reached by a broadcast of before has come back by now; until {@link fannedOut} it is handed out. */
  sessionsBack(): void {
    this.backAt = this.now;
    this.reachOnly(this.now);
  }

  /** What a former process has left to fan out has reached those who were there in all that time. */
  fannedOut(): void {
    if (this.backAt < Infinity) this.reachOnly(this.backAt);
    this.backAt = Infinity;
  }

  private reachOnly(since: number): void {
    const attached = new Set(this.attachedAgents(since));
    for (const story of this.stories.values()) {
      story.reaches = story.reaches.filter((mailbox) => attached.has(mailbox));
    }
  }

  /** The broker has died, and knows of no attachment any more. */
  restarted(): void {
    this.fannedOut();
    for (const { attachments } of this.sessions.values()) attachments.clear();
    for (const holding of this.holdings.values()) holding.attachment = 0;
    // What it had delivered and not written nobody knows.
    this.forgot();
    for (const { open } of this.stories.values()) open.clear();
  }

  /** A broker of a cluster has died, or has stopped; others may still get what it has sent. */
  left(broker: string): void {
    for (const [session, known] of this.sessions) if (known.broker === broker) this.unseat(session, known);
    for (const story of this.stories.values()) {
      for (const open of story.open) {
        if (!open.startsWith(`${broker} `)) continue;
        story.open.delete(open);
        story.tries++;
      }
    }
  }

  /** Another broker owns a shard, and does not know all that the former one has given away. */
  forgot(): void {
    this.firsts.clear();
    for (const story of this.stories.values()) story.lastDelivery = 0;
  }

  /** Whom broadcasts reach is open: nobody can say who was attached. */
  unsettled(): void {
    for (const story of this.stories.values()) story.reaches = [];
  }

  /** Somebody puts a dead letter back into its mailbox. */
  reviving(story: Story): void {
    story.revivals++;
    story.revivedAt = this.now;
    story.failures = 0;
    story.notBefore = 0;
    story.lastDelivery = 0;
  }

  /** Leases that the broker has no reason to doubt. */
  *sound(): Generator<string> {
    for (const [name, { connection }] of this.holdings) if (connection?.open) yield name;
  }

  /** Leases of owners that count, which sessions have been given and not ended. */
  *held(): Generator<{ readonly lease: Lease; readonly session: string }> {
    for (const { lease: text, session } of this.holdings.values()) {
      if (this.voids.has(text)) continue;
      const lease = new Lease();
      lease.read(leaseBytes(text), 0, LEASE_BYTES);
      yield { lease, session };
    }
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  private get now(): number {
    return this.options.clock.now();
  }

  private known(connection: SimConnection): Known {
    return must(this.sessions.get(connection.session), 'the broker says welcome first');
  }

  private storyOf(task: TaskFields, mailbox: string): Story {
    const nonce = Buffer.from(task.payload).toString().split(' ', 1)[0]!;
    const story = this.story(nonce);
    if (story.fields.to !== '*') return story;
    return this.copyOf(story, mailbox);
  }

  private copyOf(story: Story, mailbox: string): Story {
    const key = keyOf(mailbox, story.id);
    let copy = this.stories.get(key);
    if (!copy) {
      copy = new Story({ ...story.fields, to: mailbox }, true);
      this.stories.set(key, copy);
    }
    return copy;
  }

  private storyOfResult({ to, taskId }: Result): Story {
    return this.find(to, taskId);
  }

  private count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

function shardOfLease(lease: string): number {
  return Number(leaseName(lease).split('/', 1)[0]);
}

function nameOf(state: TaskState): string {
  return Object.entries(TaskState).find(([, value]) => value === state)?.[0] ?? String(state);
}

function keyOf(to: string, id: string): string {
  return `${to}\n${id}`;
}

/** `value`, which must be there. */
export function must<T>(value: T | undefined, promise: string): T {
  if (value === undefined) throw new Broken(promise);
  return value;
}

/** Whether the refused task is not there for certain; UNAVAILABLE says that nobody knows. */
function isDefinite({ code }: Refusal): boolean {
  return code !== 14;
}

/** An error that is not one of the broker's own is a mistake in it. */
function refuseInternal(refused: readonly Refusal[]): void {
  for (const { code, message } of refused) if (code === 13) throw new Broken(`the broker fails: ${message}`);
}

function describe(saying: Saying): string {
  switch (saying.kind) {
    case 'hello':
      return `hello ${saying.sessionId} [${saying.inFlight.map(leaseName).join(' ')}]`;
    case 'attach':
      return `attach ${saying.attachment} ${saying.mailbox}${saying.listener ? ' as listener' : ''} (${saying.window})`;
    case 'publish':
      return `publish ${saying.batch} [${saying.nonces.join(' ')}]`;
    case 'settle':
      return `settle ${saying.batch} [${saying.items.map(({ lease, verdict }) => `${verdict} ${leaseName(lease)}`).join(', ')}]`;
    case 'cancel':
      return `cancel ${saying.call} ${saying.to} ${saying.id}`;
    case 'inFlight':
      return `in flight [${saying.leases.map(leaseName).join(' ')}]`;
    default:
      return saying.kind;
  }
}

function describeEvent(event: Event): string {
  switch (event.kind) {
    case 'published':
      return `published ${event.ack.batch}${event.ack.refused.map(({ index, code }) => ` -${index}:${code}`).join('')}`;
    case 'settled':
      return `settled ${event.ack.batch}${event.ack.refused.map(({ index, code }) => ` -${index}:${code}`).join('')}`;
    case 'delivery': {
      const { name, delivery, attempt, task, result, attachment } = event.delivered;
      const what = task
        ? `${task.to} ${task.id} ${Buffer.from(task.payload).toString().split(' ', 1)[0]!}`
        : `result of ${result!.to} ${result!.taskId} (${result!.outcome})`;
      return `deliver ${what} to ${attachment}: ${name} delivery ${delivery} attempt ${attempt}`;
    }
    case 'control': {
      const { frame } = event;
      const parts: string[] = [];
      if (frame.welcome)
        parts.push(`welcome ${frame.welcome.sessionId}${frame.welcome.resumed ? ' again' : ''}`);
      for (const { lease, reason } of frame.abort)
        parts.push(`abort ${leaseName(leaseText(lease))}: ${reason}`);
      for (const { call, outcome } of frame.cancel) parts.push(`cancel ${call}: ${outcome}`);
      if (frame.heartbeat) parts.push(`heartbeat ${frame.heartbeat.inFlight}`);
      if (frame.listInFlight) parts.push('list');
      if (frame.goAway) parts.push('go away');
      if (frame.attached.length > 0)
        parts.push(
          `attached ${frame.attached.map(({ attachment, refusal }) => `${attachment}${refusal ? '!' : ''}`).join(' ')}`,
        );
      return parts.join(' & ');
    }
  }
}
