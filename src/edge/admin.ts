import { create } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Owner } from '../broker/owner.ts';
import type { Done } from '../broker/question.ts';
import type { Scoped } from '../broker/question.ts';
import { questionOf, scopedQuestionOf } from '../broker/question.ts';
import type { BrokerAnswer, BrokersQuestion, ShardQuestion } from '../broker/router.ts';
import type { Seat } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import { purge, replay } from '../broker/sweeps.ts';
import { bareName, DEFAULT_NAMESPACE, isIn } from '../core/namespace.ts';
import { poolOf } from '../core/pools.ts';
import { NONE } from '../core/task-table.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { RecentLatencies } from '../obs/recent.ts';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type {
  DrainRequest,
  DrainResponse,
  ListAgentsRequest,
  ListAgentsResponse,
  ListMailboxesRequest,
  ListMailboxesResponse,
  ListShardsRequest,
  ListShardsResponse,
  MoveShardRequest,
  MoveShardResponse,
  Placement,
  PurgeMailboxRequest,
  PurgeMailboxResponse,
  ReplayDeadLettersRequest,
  ReplayDeadLettersResponse,
  SetPlacementRequest,
  SetPlacementResponse,
  ShardView,
  StatsRequest,
  StatsResponse,
} from '../wire/gen/agenthub/v1/admin_pb.ts';
import {
  Admin,
  AgentViewSchema,
  DrainResponseSchema,
  ListAgentsResponseSchema,
  ListMailboxesResponseSchema,
  ListShardsRequestSchema,
  ListShardsResponseSchema,
  MailboxViewSchema,
  MoveShardResponseSchema,
  GetPlacementResponseSchema,
  PlacementSchema,
  SetPlacementResponseSchema,
  PurgeMailboxResponseSchema,
  ReplayDeadLettersResponseSchema,
  ShardViewSchema,
  StatsResponseSchema,
} from '../wire/gen/agenthub/v1/admin_pb.ts';
import type { AgentView, MailboxView } from '../wire/gen/agenthub/v1/admin_pb.ts';
import { readRules, writeRules } from '../wire/placement.ts';
import type { PlacementDocument } from '../wire/placement-document.ts';
import type { Implementation } from '../wire/service.ts';
import type { Admission, Door } from './calls.ts';
import { promised, unary } from './calls.ts';
import { mergedPage, Page } from './page.ts';
import { changePlacement, placementOf } from './placement.ts';
import { durabilityOf } from './session.ts';
import { mergedStats } from './stats.ts';
import type { BrokerStatus } from './status.ts';
import type { Tenants } from './tenants.ts';

/** Mailboxes that one turn looks at, before others have theirs. */
const SLICE = 20_000;

/** A broker that does not answer within this time is left out of what is shown of all, in milliseconds. */
const TIMEOUT_MS = 2000;

/** What an {@link AdminEdge} is made of. */
export interface AdminOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly latencies: RecentLatencies;
  readonly status: BrokerStatus;
  readonly tenants: Tenants;
  readonly door: Door;
}

/** The service `agenthub.v1.Admin`: what operators see and do. */
export class AdminEdge {
  private readonly options: AdminOptions;
  private readonly mailboxes: ShardQuestion<Scoped<ListMailboxesRequest>, ListMailboxesResponse>;
  private readonly replays: ShardQuestion<ReplayDeadLettersRequest, ReplayDeadLettersResponse>;
  private readonly purges: ShardQuestion<PurgeMailboxRequest, PurgeMailboxResponse>;
  private readonly agents: BrokersQuestion<Scoped<ListAgentsRequest>, ListAgentsResponse>;
  private readonly shards: BrokersQuestion<ListShardsRequest, ListShardsResponse>;
  private readonly figures: BrokersQuestion<Scoped<StatsRequest>, StatsResponse>;

  constructor(options: AdminOptions) {
    const { broker, clock } = options;
    const { router } = broker;
    const { method } = Admin;
    this.options = options;
    this.mailboxes = router.aboutShards(
      scopedQuestionOf(method.listMailboxes),
      true,
      (question, shards, done) => this.mailboxesHere(question, shards, done),
    );
    this.replays = router.aboutShards(questionOf(method.replayDeadLetters), false, (request, _shards, done) =>
      replay(broker, clock, request, (replayed) =>
        done(undefined, create(ReplayDeadLettersResponseSchema, { replayed: BigInt(replayed) })),
      ),
    );
    this.purges = router.aboutShards(questionOf(method.purgeMailbox), false, (request, _shards, done) =>
      purge(broker, clock, request, (purged) =>
        done(undefined, create(PurgeMailboxResponseSchema, { purged: BigInt(purged) })),
      ),
    );
    this.agents = router.toBrokers(scopedQuestionOf(method.listAgents), (question, done) =>
      done(undefined, this.agentsHere(question)),
    );
    this.shards = router.toBrokers(questionOf(method.listShards), (_request, done) =>
      done(undefined, create(ListShardsResponseSchema, { shards: this.shardsHere() })),
    );
    this.figures = router.toBrokers(scopedQuestionOf(method.stats), ({ namespace }, done) =>
      done(undefined, this.statsOf(namespace)),
    );
  }

  /** The handlers. */
  implementation(): Implementation<typeof Admin> {
    const { door, broker } = this.options;
    return {
      listMailboxes: this.looks('listMailboxes', (question) => this.listMailboxes(question)),
      listAgents: this.looks('listAgents', (question) => this.listAgents(question)),
      replayDeadLetters: unary(door, (request, admission) =>
        this.acts(admission, 'replayDeadLetters', request, () =>
          promised((done) => this.replays.ofShard(broker.shardOf(request.mailbox), request, done)),
        ),
      ),
      purgeMailbox: unary(door, (request, admission) =>
        this.acts(admission, 'purgeMailbox', request, () =>
          promised((done) => this.purges.ofShard(broker.shardOf(request.mailbox), request, done)),
        ),
      ),
      listShards: this.looks('listShards', () => this.listShards()),
      moveShard: unary(door, (request, admission) =>
        this.acts(admission, 'moveShard', { on: `${request.shard}` }, () => this.moveShard(request)),
      ),
      getPlacement: this.looks('getPlacement', () =>
        create(GetPlacementResponseSchema, { placement: placementMessage(placementOf(broker)) }),
      ),
      setPlacement: unary(door, (request, admission) =>
        this.acts(admission, 'setPlacement', { on: `version ${request.version}` }, () =>
          this.setPlacement(request),
        ),
      ),
      drain: unary(door, (request, admission) => {
        const on = request.cancel ? 'cancel' : request.status ? 'status' : 'start';
        return this.acts(admission, 'drain', { on }, () => this.drain(request));
      }),
      stats: this.looks('stats', (question) => this.stats(question)),
    };
  }

  /** A call that changes nothing, for who may make it. */
  private looks<Request, Response>(
    verb: keyof typeof Admin.method,
    answer: (question: Scoped<Request>) => Response | Promise<Response>,
  ) {
    return unary<Request, Response>(this.options.door, (request, admission) => {
      admission.require({ does: 'admin', to: verb }, '');
      return answer({ namespace: admission.names.namespace, request });
    });
  }

  /** Does something, for who may do it, and writes down who did. Who manages a mailbox needs no right beside that. */
  private acts<Response>(
    admission: Admission,
    verb: keyof typeof Admin.method,
    subject: { readonly mailbox: string } | { readonly on: string },
    act: () => Response | Promise<Response>,
  ): Promise<Response> {
    const { principal, peer, rights, names } = admission;
    const mailbox = 'mailbox' in subject ? subject.mailbox : undefined;
    const manages = mailbox !== undefined && rights.limited && rights.may({ does: 'manage', to: mailbox });
    if (!manages) admission.require({ does: 'admin', to: verb }, '');
    const on = 'on' in subject ? subject.on : names.leave(subject.mailbox);
    const where = names.isDefault ? {} : { namespace: names.namespace };
    return this.options.door.audit.during({ who: principal.name, peer, ...where }, verb, on, act);
  }

  private async listMailboxes(question: Scoped<ListMailboxesRequest>): Promise<ListMailboxesResponse> {
    const { request } = question;
    const answers = await promised<readonly ListMailboxesResponse[]>((done) =>
      this.mailboxes.ofAll(question, done),
    );
    const pages = answers.map(({ mailboxes: items, nextPageToken }) => ({ items, nextPageToken }));
    const keyOf = ({ mailbox, queued, running }: MailboxView): string =>
      mailboxKey(request, mailbox, Number(queued + running));
    const { items: mailboxes, nextPageToken } = mergedPage(pages, keyOf, request);
    return create(ListMailboxesResponseSchema, { mailboxes, nextPageToken });
  }

  private mailboxesHere(
    { namespace, request }: Scoped<ListMailboxesRequest>,
    shards: readonly number[],
    done: Done<ListMailboxesResponse>,
  ): void {
    const { broker, clock } = this.options;
    const page = new Page<MailboxView>(request);
    const now = clock.now();
    const all = mailboxesOf(shards.map((shard) => broker.shards.owner(shard)!));
    const step = (): void => {
      for (let left = SLICE; left > 0; left--) {
        const next = all.next();
        if (next.done) {
          const { items: mailboxes, nextPageToken } = page.finish();
          return done(undefined, create(ListMailboxesResponseSchema, { mailboxes, nextPageToken }));
        }
        const [owner, name, held] = next.value;
        if (!isIn(namespace, name) || !bareName(name).startsWith(request.prefix)) continue;
        page.offer(mailboxKey(request, name, held), () => mailboxView(owner, name, now));
      }
      clock.soon(step);
    };
    step();
  }

  private async listAgents(question: Scoped<ListAgentsRequest>): Promise<ListAgentsResponse> {
    const answers = await polled(this.agents, question);
    const pages = answers.map(({ response, error }) => {
      if (!response) throw error!;
      return { items: response.agents, nextPageToken: response.nextPageToken };
    });
    const { items: agents, nextPageToken } = mergedPage(pages, agentKey, question.request);
    return create(ListAgentsResponseSchema, { agents, nextPageToken });
  }

  private agentsHere({ namespace, request }: Scoped<ListAgentsRequest>): ListAgentsResponse {
    const page = new Page<AgentView>(request);
    for (const session of this.options.broker.sessions.values()) {
      for (const seat of session.seats()) {
        const { agent, number: attachment } = seat.spec;
        if (!isIn(namespace, agent) || !bareName(agent).startsWith(request.prefix)) continue;
        page.offer(agentKey({ agent, sessionId: session.session, attachment }), () =>
          agentView(session, seat),
        );
      }
    }
    const { items: agents, nextPageToken } = page.finish();
    return create(ListAgentsResponseSchema, { agents, nextPageToken });
  }

  /** Every shard, whether somebody serves it or not; of one that is moving, what its last owner says. */
  private async listShards(): Promise<ListShardsResponse> {
    const { broker } = this.options;
    const answers = await polled(this.shards, create(ListShardsRequestSchema));
    const said = answers.flatMap(({ response }) => response?.shards ?? []);
    const shards = Array.from({ length: broker.shards.count }, (_, shard) => {
      const views = said.filter((view) => view.shard === shard).sort((a, b) => Number(b.epoch - a.epoch));
      return views[0] ?? this.unserved(shard);
    });
    const { pools } = broker.atlas.layout;
    for (const view of shards) {
      view.assigned = broker.cluster.assigned(view.shard)?.broker ?? '';
      view.pool = poolOf(pools, view.shard)?.name ?? '';
    }
    return create(ListShardsResponseSchema, { shards });
  }

  /** What is known of a shard that no broker speaks for. */
  private unserved(shard: number): ShardView {
    const { broker } = this.options;
    const claim = broker.cluster.claim(shard);
    const { first, last, bytes } = broker.log.extent(shard);
    return create(ShardViewSchema, {
      shard,
      owner: claim?.broker ?? '',
      epoch: BigInt(claim?.epoch.counter ?? 0),
      firstSequence: BigInt(first),
      lastSequence: BigInt(last),
      bytes: BigInt(bytes),
    });
  }

  private shardsHere(): ShardView[] {
    const { broker, status } = this.options;
    return broker.owners.map(({ shard, state }) => {
      const { first, last, bytes } = broker.log.extent(shard);
      return create(ShardViewSchema, {
        shard,
        owner: broker.id,
        epoch: BigInt(state.epoch.counter),
        firstSequence: BigInt(first),
        lastSequence: BigInt(last),
        lag: BigInt(Math.max(0, last - state.sequence)),
        bytes: BigInt(bytes),
        tasks: BigInt(state.tasks.count),
        mailboxes: BigInt(state.mailboxes.size),
        tasksPerSecond: status.shardRate(shard),
        outbox: BigInt(state.outbox.size),
        assigned: broker.cluster.assigned(shard)?.broker ?? '',
      });
    });
  }

  private async moveShard({ shard, broker: name }: MoveShardRequest): Promise<MoveShardResponse> {
    const { cluster, shards } = this.options.broker;
    if (shard >= shards.count) {
      throw new HubError('invalid', `shard must be less than ${shards.count}`, { field: 'shard' });
    }
    if (name === '') throw new HubError('invalid', 'broker must not be empty', { field: 'broker' });
    const ids = cluster.members().map(({ id }) => id);
    const named = ids.includes(name) ? [name] : ids.filter((id) => id.startsWith(name));
    const [broker] = named;
    if (broker === undefined || named.length > 1) {
      const which = broker === undefined ? 'there is no broker' : 'several brokers have ids that begin with';
      throw new HubError('not_found', `${which} ${name}; there are ${ids.join(', ')}`, { field: 'broker' });
    }
    await promised<undefined>((done) =>
      cluster.move(shard, broker, (error) => (error ? done(error, undefined) : done(undefined, undefined))),
    );
    return create(MoveShardResponseSchema, { broker });
  }

  private async setPlacement(request: SetPlacementRequest): Promise<SetPlacementResponse> {
    const placement = await changePlacement(this.options.broker, readRules(request));
    return create(SetPlacementResponseSchema, { placement: placementMessage(placement) });
  }

  /** Nobody else is there to take shards over: they are not waited for. */
  private drain(request: DrainRequest): DrainResponse {
    const { drain } = this.options.status;
    if (request.cancel) drain.cancel();
    else if (!request.status) drain.start();
    const { state, shards, sessions, activeTasks } = drain.status();
    return create(DrainResponseSchema, {
      shardsLeft: shards,
      draining: state !== 'serving',
      finished: state === 'drained',
      sessionsLeft: sessions,
      leasesLeft: activeTasks,
    });
  }

  private async stats(question: Scoped<StatsRequest>): Promise<StatsResponse> {
    const here = this.statsOf(question.namespace);
    if (!question.request.cluster) return here;
    const answers = await polled(this.figures, question);
    return mergedStats(
      here,
      answers.flatMap(({ broker, response }) => (response && broker !== here.broker ? [response] : [])),
    );
  }

  /** The default namespace sees all that its brokers do; the others see of that what is theirs. */
  private statsOf(namespace: string): StatsResponse {
    if (namespace === DEFAULT_NAMESPACE) return this.statsHere();
    const { broker, tenants, status, clock } = this.options;
    const { accepted, perSecond, sessions, agents, queued, running } = tenants.figuresOf(namespace);
    return create(StatsResponseSchema, {
      broker: broker.id,
      version: status.capacity().version,
      uptimeSeconds: (clock.now() - broker.startedAt) / 1000,
      tasksPerSecond: perSecond,
      accepted: BigInt(accepted),
      sessions,
      agents,
      queued: BigInt(queued),
      running: BigInt(running),
      durability: durabilityOf(broker.log.durability),
      draining: broker.phase === 'draining',
      brokers: 1,
    });
  }

  private statsHere(): StatsResponse {
    const { broker, metrics, status, latencies, clock } = this.options;
    const capacity = status.capacity();
    const tasks = status.tasks();
    const shards = this.shardsHere();
    const types = [...metrics.taskTypes.entries()].map(([, figures]) => figures);
    const sum = (values: readonly number[]): bigint =>
      BigInt(values.reduce((total, value) => total + value, 0));
    const { routing, processing, endToEnd, append } = latencies.read();
    const counted = ({ count, ...latency }: typeof routing) => ({ ...latency, count: BigInt(count) });
    return create(StatsResponseSchema, {
      broker: broker.id,
      version: capacity.version,
      uptimeSeconds: (clock.now() - broker.startedAt) / 1000,
      ...metrics.rates(),
      accepted: sum(types.map(({ accepted }) => accepted.value)),
      completed: sum(types.map(({ completed }) => completed.value)),
      failed: sum(types.map(({ failed }) => failed.value)),
      dead: sum(types.map(({ dead }) => dead.value)),
      redelivered: BigInt(metrics.redelivered.value),
      refused: sum([...metrics.refused.entries()].map(([, { value }]) => value)),
      routing: counted(routing),
      processing: counted(processing),
      endToEnd: counted(endToEnd),
      append: counted(append),
      sessions: broker.sessions.size,
      agents: status.activeAgents,
      queued: BigInt(tasks.queued),
      running: BigInt(tasks.active),
      memoryBytes: BigInt(capacity.memory),
      cpu: capacity.cpu,
      eventLoopUtilization: capacity.eventLoopUtilization,
      logBytes: shards.reduce((total, { bytes }) => total + bytes, 0n),
      load: capacity.loadScore,
      durability: durabilityOf(broker.log.durability),
      draining: capacity.draining,
      shards,
      brokers: 1,
    });
  }
}

function placementMessage({ pools, ...rules }: PlacementDocument): Placement {
  return create(PlacementSchema, { ...writeRules(rules), pools: [...pools] });
}

function mailboxView(owner: Owner, mailbox: string, now: number): MailboxView {
  const { shard, state, ready, subscriptions } = owner;
  const { mailboxes, tasks } = state;
  const id = mailboxes.find(mailbox);
  if (id < 0) return create(MailboxViewSchema, { mailbox, shard });
  const workers = subscriptions.workers(id);
  const next = ready.peek(id);
  const queued = mailboxes.queued[id]!;
  const delayed = mailbox.startsWith('dead:') ? 0 : Math.max(0, queued - ready.count(id));
  return create(MailboxViewSchema, {
    mailbox,
    shard,
    queued: BigInt(queued),
    delayed: BigInt(delayed),
    running: BigInt(mailboxes.leased[id]!),
    bytes: BigInt(mailboxes.bytes[id]!),
    workers: workers.length,
    listeners: subscriptions.listeners(id).length,
    credit: workers.reduce((sum, { window, inFlight }) => sum + Math.max(0, window - inFlight), 0),
    oldestMs: next === NONE ? 0n : BigInt(Math.max(0, Math.floor(now - tasks.accepted[next]!))),
  });
}

function agentView(session: EdgeSession, seat: Seat): AgentView {
  const { spec, mailbox, consumers, relayed } = seat;
  return create(AgentViewSchema, {
    agent: spec.agent,
    sessionId: session.session,
    client: session.client,
    mailbox,
    listener: spec.listener,
    window: consumers[0]?.window ?? seat.window,
    // The two consumers of replies count together.
    inFlight: consumers[0]?.inFlight ?? relayed,
    types: [...spec.types],
    peer: session.peer,
    connected: session.connected,
    attachedAtMs: BigInt(Math.floor(spec.attachedAt)),
    attachment: spec.number,
  });
}

/** Answers of all live brokers. */
function polled<Request, Response>(
  question: BrokersQuestion<Request, Response>,
  request: Request,
): Promise<readonly BrokerAnswer<Response>[]> {
  return new Promise((resolve, reject) => {
    try {
      question.ofEach(request, TIMEOUT_MS, resolve);
    } catch (error) {
      reject(toHubError(error));
    }
  });
}

function* mailboxesOf(
  owners: readonly Owner[],
): Generator<readonly [owner: Owner, mailbox: string, held: number], undefined> {
  for (const owner of owners) {
    const { mailboxes } = owner.state;
    for (const [name, id] of mailboxes.entries())
      yield [owner, name, mailboxes.queued[id]! + mailboxes.leased[id]!];
  }
}

/** What mailboxes are listed by. */
function mailboxKey({ fullestFirst }: ListMailboxesRequest, mailbox: string, held: number): string {
  if (!fullestFirst) return mailbox;
  // Of texts that are compared, the one for the largest number must come first.
  return `${(Number.MAX_SAFE_INTEGER - held).toString().padStart(16, '0')}\n${mailbox}`;
}

function agentKey({
  agent,
  sessionId,
  attachment,
}: Pick<AgentView, 'agent' | 'sessionId' | 'attachment'>): string {
  return `${agent}\n${sessionId}\n${attachment}`;
}
