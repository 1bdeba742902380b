import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Owner } from '../broker/owner.ts';
import type { Seat } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import { purge, replay } from '../broker/sweeps.ts';
import { NONE } from '../core/task-table.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { RecentLatencies } from '../obs/recent.ts';
import type { Clock } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type {
  Admin,
  AgentViewSchema,
  DrainRequest,
  DrainResponse,
  ListAgentsRequest,
  ListAgentsResponse,
  ListMailboxesRequest,
  ListMailboxesResponse,
  MailboxViewSchema,
  ShardViewSchema,
  StatsResponse,
} from '../wire/gen/agenthub/v1/admin_pb.ts';
import {
  DrainResponseSchema,
  ListAgentsResponseSchema,
  ListMailboxesResponseSchema,
  ListShardsResponseSchema,
  PurgeMailboxResponseSchema,
  ReplayDeadLettersResponseSchema,
  StatsResponseSchema,
} from '../wire/gen/agenthub/v1/admin_pb.ts';
import type { Implementation } from '../wire/service.ts';
import type { Door } from './calls.ts';
import { unary } from './calls.ts';
import { durabilityOf } from './session.ts';
import { Page } from './page.ts';
import type { BrokerStatus } from './status.ts';

/** Mailboxes that one turn looks at, before others have theirs. */
const SLICE = 20_000;

type MailboxView = MessageInitShape<typeof MailboxViewSchema>;
type AgentView = MessageInitShape<typeof AgentViewSchema>;
type ShardView = MessageInitShape<typeof ShardViewSchema>;

/** What an {@link AdminEdge} is made of. */
export interface AdminOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly latencies: RecentLatencies;
  readonly status: BrokerStatus;
  readonly door: Door;
}

/** The service `agenthub.v1.Admin`: what operators see and do. */
export class AdminEdge {
  private readonly options: AdminOptions;

  constructor(options: AdminOptions) {
    this.options = options;
  }

  /** The handlers. */
  implementation(): Implementation<typeof Admin> {
    const { door, broker, clock } = this.options;
    const admit = door.admitAdmin.bind(door);
    return {
      listMailboxes: unary(admit, (request) => this.mailboxes(request)),
      listAgents: unary(admit, (request) => this.agents(request)),
      replayDeadLetters: unary(admit, async (request) => {
        const replayed = await counted((done) => replay(broker, clock, request, done));
        return create(ReplayDeadLettersResponseSchema, { replayed });
      }),
      purgeMailbox: unary(admit, async (request) => {
        const purged = await counted((done) => purge(broker, clock, request, done));
        return create(PurgeMailboxResponseSchema, { purged });
      }),
      listShards: unary(admit, () => create(ListShardsResponseSchema, { shards: this.shards() })),
      drain: unary(admit, (request) => this.drain(request)),
      stats: unary(admit, () => this.stats()),
    };
  }

  private async mailboxes(request: ListMailboxesRequest): Promise<ListMailboxesResponse> {
    const { broker, clock } = this.options;
    const page = new Page<MailboxView>(request);
    const now = clock.now();
    let left = SLICE;
    for (const owner of broker.owners) {
      for (const [name] of owner.state.mailboxes.entries()) {
        if (name.startsWith(request.prefix)) page.offer(name, () => mailboxView(owner, name, now));
        if (--left > 0) continue;
        left = SLICE;
        await new Promise<void>((resolve) => clock.soon(resolve));
      }
    }
    const { items: mailboxes, nextPageToken } = page.finish();
    return create(ListMailboxesResponseSchema, { mailboxes, nextPageToken });
  }

  private agents(request: ListAgentsRequest): ListAgentsResponse {
    const page = new Page<AgentView>(request);
    for (const session of this.options.broker.sessions.values()) {
      for (const seat of session.seats()) {
        const { agent, number } = seat.spec;
        if (!agent.startsWith(request.prefix)) continue;
        page.offer(`${agent}\n${session.session}\n${number}`, () => agentView(session, seat));
      }
    }
    const { items: agents, nextPageToken } = page.finish();
    return create(ListAgentsResponseSchema, { agents, nextPageToken });
  }

  private shards(): ShardView[] {
    const { broker, status } = this.options;
    return broker.owners.map(({ shard, state }) => {
      const { first, last, bytes } = broker.log.extent(shard);
      return {
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
      };
    });
  }

  /** Nobody else is there to take shards over: they are not waited for. */
  private drain(request: DrainRequest): DrainResponse {
    const { drain } = this.options.status;
    if (request.cancel) drain.cancel();
    else if (!request.status) drain.start();
    const { state, sessions, activeTasks } = drain.status();
    return create(DrainResponseSchema, {
      draining: state !== 'serving',
      finished: state === 'drained',
      sessionsLeft: sessions,
      leasesLeft: activeTasks,
    });
  }

  private stats(): StatsResponse {
    const { broker, metrics, status, latencies, clock } = this.options;
    const capacity = status.capacity();
    const tasks = status.tasks();
    const shards = this.shards();
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
      logBytes: shards.reduce((total, { bytes = 0n }) => total + bytes, 0n),
      load: capacity.loadScore,
      durability: durabilityOf(broker.log.durability),
      draining: capacity.draining,
      shards,
    });
  }
}

function mailboxView(owner: Owner, mailbox: string, now: number): MailboxView {
  const { shard, state, ready, subscriptions } = owner;
  const { mailboxes, tasks } = state;
  const id = mailboxes.find(mailbox);
  if (id < 0) return { mailbox, shard };
  const workers = subscriptions.workers(id);
  const next = ready.peek(id);
  const queued = mailboxes.queued[id]!;
  const delayed = mailbox.startsWith('dead:') ? 0 : Math.max(0, queued - ready.count(id));
  return {
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
  };
}

function agentView(session: EdgeSession, seat: Seat): AgentView {
  const { spec, mailbox, consumers, relayed } = seat;
  return {
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
  };
}

/** The count that `act` ends with. */
function counted(act: (done: (count: number) => void) => void): Promise<bigint> {
  return new Promise((resolve, reject) => {
    try {
      act((count) => resolve(BigInt(count)));
    } catch (error) {
      reject(toHubError(error));
    }
  });
}
