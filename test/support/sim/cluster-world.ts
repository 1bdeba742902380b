import type { Owner } from '../../../src/broker/owner.ts';
import { findTask, viewTask } from '../../../src/broker/tasks.ts';
import { Ticket } from '../../../src/broker/ticket.ts';
import type { Epoch } from '../../../src/core/shard-state.ts';
import { outranks } from '../../../src/core/shard-state.ts';
import { State } from '../../../src/core/task-table.ts';
import type { Subject } from '../../../src/log/log.ts';
import { DURABILITY } from '../../../src/log/log.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { Ranges } from '../../../src/wire/client-frame.ts';
import type { TaskState } from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { readOwnerHead } from '../../../src/wire/owner-record.ts';
import { refusalOf } from '../../../src/wire/status.ts';
import { writeTask } from '../../../src/wire/task.ts';
import { VirtualClock } from '../clock.ts';
import { SeededRandom } from '../random.ts';
import { SimBus } from '../sim-bus.ts';
import { SimStore } from '../sim-store.ts';
import type { Composed, Surroundings } from './client.ts';
import { SimClient } from './client.ts';
import type { ClusterPlan, Fault } from './cluster-plan.ts';
import { drawCluster, drawHeaps, FAULTS } from './cluster-plan.ts';
import { SimConnection } from './connection.ts';
import type { Decision } from './decisions.ts';
import { watchDecisions } from './decisions.ts';
import type { Story } from './ledger.ts';
import { Broken, Ledger } from './ledger.ts';
import { Node } from './node.ts';
import { ReplicatedLog } from './replicated-log.ts';
import { Shadows } from './shadows.ts';
import { MAILBOXES, REPLIES, Traffic } from './traffic.ts';
import type { WorldOptions } from './world.ts';

/** What a cluster does beside what its seed says. */
export interface ClusterWorldOptions extends WorldOptions {
  /** Nobody works until all is calm, and the logs are small: they fill up. */
  readonly heaps?: boolean;
  /** What its seed does not decide. */
  readonly plan?: Partial<ClusterPlan>;
}

const MAX_ATTEMPTS = 3;
const BACKOFF = { backoffInitialMs: 10, backoffMaxMs: 60 };
const KNOWN_IDS = 65_536;
const LONG_MS = 3_600_000;
/** Virtual time after which a cluster without trouble must have come to rest, beside the grace of its sessions. */
const PATIENCE_MS = 15_000;
/** The same for logs to become short: a turn of the upkeep copies one record. */
const FADING_MS = 60_000;
/** By how much everything takes longer than in a world of one broker. */
const PACE = 10;
const MOST_BROKERS = 4;
/** How far clocks may be off, in milliseconds. */
const SKEW_MS = 2000;
/** What is said at one end is known at the other by then, in milliseconds, if nothing is wrong. */
const LAG_MS = 2000;
/** Who has slept for longer does not rely any more on what it knew. */
const SLEPT_MS = 1000;

/** More calls than this in one moment never end. */
const BUSY = 50_000;

/** A place for brokers, which clients know by its name. */
interface Site {
  readonly name: string;
  node: Node | undefined;
  starts: number;
}

/** Which broker is the owner of a shard, as the log says. */
interface Ownership {
  by: string;
  revision: number;
  counter: number;
  /** The log takes nothing more from it, because somebody has begun an epoch that is void. */
  fenced: boolean;
}

/** Brokers, the log and the documents that they share, their clients, and all their trouble, from one seed. */
export class ClusterWorld implements Surroundings {
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  readonly plan: ClusterPlan;
  calm = false;
  readonly immediate = false;
  private readonly options: ClusterWorldOptions;
  private readonly bus: SimBus;
  private readonly store: SimStore;
  private readonly log: ReplicatedLog;
  private readonly shadows: Shadows;
  private readonly traffic: Traffic;
  private readonly sites: Site[] = [];
  private readonly clients: SimClient[] = [];
  private connections: SimConnection[] = [];
  private readonly owners: Ownership[];
  /** Ways that are cut now, as messages from the one to the other. */
  private readonly cuts = new Set<readonly [string, string]>();
  private noisy = false;
  private late = false;
  /** When something was wrong with a broker for the last time; `Infinity`: it is now. */
  private readonly troubled = new Map<string, number>();
  /** When a shard got another owner for the last time. */
  private movedAt = 0;
  /** When those woke that had slept for long. */
  private readonly woken = new Map<Node, number>();
  private records = 0;
  /** Calls in this moment. */
  private calls = 0;
  private failure: Error | undefined;

  constructor(seed: number, options: ClusterWorldOptions = {}) {
    this.options = options;
    this.random = new SeededRandom(seed);
    const { random } = this;
    const heaps = options.heaps ?? false;
    this.plan = { ...(heaps ? drawHeaps(random) : drawCluster(random)), ...options.plan };
    const { plan } = this;
    this.clock = new VirtualClock({ random: () => random.float() });
    const { clock } = this;
    this.bus = new SimBus(random, () => this.busDelay());
    this.store = new SimStore(clock, random, () => 0.5 + random.float() * plan.logMs);
    this.store.watchDelayMs = () => random.float() * (this.late ? 1500 : plan.logMs);
    this.log = new ReplicatedLog({
      clock,
      shards: plan.shards,
      maxBytesPerShard: plan.maxBytesPerShard,
      stored: (by, shard, sequence, subject, bytes) => this.stored(by, shard, sequence, subject, bytes),
    });
    this.shadows = new Shadows(plan.shards, KNOWN_IDS);
    this.owners = Array.from({ length: plan.shards }, () => ({
      by: '',
      revision: 0,
      counter: 0,
      fenced: false,
    }));
    this.ledger = new Ledger({
      clock,
      maxAttempts: MAX_ATTEMPTS,
      ...BACKOFF,
      shortRetention: false,
      durability: DURABILITY.indexOf('replicated') + 1,
      trace: (line) => this.trace(line),
      between: {
        isVoid: (decision) => this.isVoid(decision),
        mayDoubt: (edge, shard, since) => this.mayDoubt(edge, shard, since),
        wasCalm: (since) => this.wasCalm(since),
        lagMs: LAG_MS,
        skewMs: plan.weights.clock > 0 ? 2 * SKEW_MS : 0,
      },
    });
    this.traffic = new Traffic({ clock, random, ledger: this.ledger, pace: PACE, heaps });
    this.trace(() => JSON.stringify(plan));
    for (let index = 0; index < plan.brokers; index++) this.build();
    for (let index = 0; index < plan.clients; index++) {
      this.clients.push(new SimClient(`client ${index}`, this.traffic.temper(), this));
    }
  }

  /** Everything, from the first publish to the last check. Throws what is broken. */
  run(): void {
    watchDecisions((decision) => this.ledger.gave(decision));
    this.trouble();
    this.heal();
    this.reckon();
    this.fade();
  }

  // ── Trouble ──────────────────────────────────────────────────────────────────────────────────

  private trouble(): void {
    const { plan, clock } = this;
    const end = clock.now() + plan.troubleMs;
    this.faultLater();
    while (clock.now() < end) this.step();
  }

  private faultLater(): void {
    this.clock.after(this.random.float() * 2 * this.plan.faultMs, () => {
      if (this.calm) return;
      this.fault();
      this.faultLater();
    });
  }

  private fault(): void {
    const { weights } = this.plan;
    const sum = FAULTS.reduce((total, fault) => total + weights[fault], 0);
    let at = this.random.float() * sum;
    const fault = FAULTS.find((one) => (at -= weights[one]) < 0);
    if (fault) this.strike(fault);
  }

  private strike(fault: Fault): void {
    const { random } = this;
    const node = this.someNode();
    switch (fault) {
      case 'crash':
        if (node) this.crash(node);
        return;
      case 'pause':
        if (node) this.pause(node, random.chance(0.5) ? random.float() * 1500 : 2000 + random.float() * 4000);
        return;
      case 'stop':
        if (node) this.stop(node);
        return;
      case 'join':
        if (this.sites.length < MOST_BROKERS) this.build();
        return;
      case 'partition':
        return this.partition(200 + random.float() * 3000);
      case 'isolation':
        if (node) this.isolate(node, 200 + random.float() * 4000);
        return;
      case 'outage':
        return this.outage(300 + random.float() * 3000);
      case 'noise':
        return this.noise(200 + random.float() * 2000);
      case 'late store':
        return this.makeLate(500 + random.float() * 3000);
      case 'lost answers':
        return this.loseAnswers(500 + random.float() * 2000);
      case 'move':
        return this.move();
      case 'cut':
        return this.cut();
      case 'die':
        return this.die();
      case 'admin':
        return this.administer();
      case 'clock':
        if (node) this.turnClock(node);
        return;
    }
  }

  private step(): void {
    const { clock } = this;
    const before = clock.now();
    clock.step();
    this.calls = clock.now() > before ? 0 : this.calls + 1;
    if (this.calls > BUSY) throw new Broken('somebody turns in circles: time does not go on');
    const broken = this.failure ?? this.ledger.broken;
    if (broken !== undefined) throw broken;
  }

  private someNode(): Node | undefined {
    const { nodes } = this;
    return nodes[this.random.below(nodes.length)];
  }

  private get nodes(): Node[] {
    return this.sites.flatMap(({ node }) => (node ? [node] : []));
  }

  private build(): void {
    const site: Site = { name: `b${this.sites.length + 1}`, node: undefined, starts: 0 };
    this.sites.push(site);
    this.clock.after(this.random.float() * 300, () => this.boot(site));
  }

  private boot(site: Site): void {
    if (site.node) return;
    const { plan, clock, random, bus, store, log } = this;
    const id = `${site.name}-${++site.starts}`;
    this.trace(() => `*** ${id} starts`);
    site.node = new Node({
      name: site.name,
      id,
      clock,
      random,
      logger: this.loggerOf(id),
      bus,
      store,
      log,
      steering: plan.steering,
      logDelayMs: () => random.float() * (random.chance(0.02) ? 10 * plan.logMs : plan.logMs),
      logLoss: () => !this.calm && plan.logLoss > 0 && random.chance(plan.logLoss),
      applied: (node, shard, sequence) => this.applied(node, shard, sequence),
      ended: (node, error) => this.ended(site, node, error),
      broker: {
        limits: {
          taskBytes: 64 * 1024,
          batchTasks: 100,
          mailboxes: 1000,
          mailboxDepth: 10_000,
          mailboxBytes: 1024 * 1024,
          memoryHighWaterBytes: 1,
        },
        delivery: {
          maxAttempts: MAX_ATTEMPTS,
          ...BACKOFF,
          balance: random.chance(0.5) ? 'round-robin' : 'capacity',
        },
        retention: {
          taskMs: LONG_MS,
          resultMs: LONG_MS,
          deadLetterMs: LONG_MS,
          deadPerMailbox: 10_000,
          resultsPerMailbox: 10_000,
        },
        graceMs: plan.graceMs,
        tickMs: plan.tickMs,
        upkeepMs: plan.upkeepMs,
        thrift: {
          sweep: 50,
          checkpointBytes: plan.checkpointBytes,
          checkpointShare: 0,
          wasteBytes: plan.wasteBytes,
          copyBytes: 2048,
        },
      },
      session: {
        version: 'sim',
        heartbeatMs: 500,
        timeoutMs: 1600,
        graceMs: plan.graceMs,
        maxWindow: 8,
        maxAttachments: 100,
        maxAgents: 100,
        frameBytes: 1024 * 1024,
        taskBytes: 64 * 1024,
        batchTasks: 100,
      },
    });
  }

  private crash(node: Node): void {
    this.trace(() => `*** ${node.id} dies`);
    this.check();
    this.bury(node);
  }

  private bury(node: Node): void {
    const { random } = this;
    const site = this.sites.find((one) => one.node === node)!;
    const silent = random.chance(0.2);
    node.kill(() => (silent ? 5000 : random.float() * 20));
    this.troubleEnded(node.id);
    this.ledger.left(node.id);
    this.ledger.unsettled();
    site.node = undefined;
    this.troubled.set(node.id, this.clock.now());
    this.clock.after(this.calm ? 100 : random.float() * 2000, () => this.boot(site));
  }

  private ended(site: Site, node: Node, error: HubError | undefined): void {
    this.trace(
      () => `*** ${node.id} has ended: ${error ? `${error.code} ${error.message}` : 'as it was told'}`,
    );
    if (error) this.failure ??= new Broken(`${node.id} can't go on: ${error.message}`);
    if (site.node === node) this.bury(node);
  }

  private pause(node: Node, ms: number): void {
    if (node.life.paused) return;
    this.trace(() => `*** ${node.id} sleeps for ${Math.round(ms)} ms`);
    node.life.pause();
    this.troubled.set(node.id, Infinity);
    this.ledger.unsettled();
    this.clock.after(ms, () => this.wake(node, ms));
  }

  private wake(node: Node, sleptMs: number): void {
    if (!node.life.paused || node.life.over) return;
    this.trace(() => `*** ${node.id} wakes`);
    node.life.resume();
    if (sleptMs > SLEPT_MS) this.woken.set(node, this.clock.now());
    this.troubleEnded(node.id);
    this.ledger.unsettled();
  }

  private stop(node: Node): void {
    if (!node.ready || node.life.paused) return;
    const deadlineMs = 200 + this.random.float() * 5000;
    this.trace(() => `*** ${node.id} stops within ${Math.round(deadlineMs)} ms`);
    this.troubleEnded(node.id);
    this.ledger.unsettled();
    node.stop(deadlineMs);
  }

  private partition(ms: number): void {
    const { random, nodes } = this;
    const one = this.someNode();
    const others = nodes.filter((node) => node !== one);
    const other = others[random.below(others.length)];
    if (!one || !other) return;
    const both = random.chance(0.5);
    this.trace(
      () =>
        `*** nothing goes from ${one.id} to ${other.id}${both ? ', nor back,' : ''} for ${Math.round(ms)} ms`,
    );
    this.cutFor(ms, [one.id, other.id], both ? [other.id, one.id] : undefined);
  }

  private cutFor(ms: number, ...ways: (readonly [string, string] | undefined)[]): void {
    const cuts = ways.filter((way) => way !== undefined);
    for (const cut of cuts) this.cuts.add(cut);
    this.recut();
    for (const id of cuts.flat()) this.troubled.set(id, Infinity);
    this.ledger.unsettled();
    this.clock.after(ms, () => {
      for (const cut of cuts) this.cuts.delete(cut);
      this.recut();
      for (const id of cuts.flat()) this.troubleEnded(id);
    });
  }

  private recut(): void {
    this.bus.heal();
    for (const [from, to] of this.cuts) this.bus.cut(from, to, { back: false });
  }

  /** A broker loses NATS, or a part of it; it may notice or not. */
  private isolate(node: Node, ms: number): void {
    const { random } = this;
    this.troubled.set(node.id, Infinity);
    this.ledger.unsettled();
    const kind = random.below(4);
    this.trace(
      () =>
        `*** ${node.id} loses ${['NATS', 'NATS, and does not notice', 'the log', 'the bus'][kind]!} for ${Math.round(ms)} ms`,
    );
    if (kind === 0) node.connect(false);
    if (kind === 1 || kind === 2) node.log.deaf = true;
    if (kind === 1 || kind === 3) {
      const others = this.nodes.filter((other) => other !== node).map(({ id }) => id);
      this.cutFor(
        ms,
        [node.id, node.id],
        ...others.flatMap((id) => [[node.id, id] as const, [id, node.id] as const]),
      );
    }
    this.clock.after(ms, () => this.rejoin(node));
  }

  private rejoin(node: Node): void {
    node.log.deaf = false;
    node.connect(true);
    this.troubleEnded(node.id);
  }

  private outage(ms: number): void {
    if (this.log.leaderless) return;
    this.trace(() => `*** the servers have no leader for ${Math.round(ms)} ms`);
    this.log.leaderless = true;
    this.store.lostCalls = 1;
    this.everybody(Infinity);
    this.clock.after(ms, () => this.lead());
  }

  private lead(): void {
    this.log.leaderless = false;
    this.store.lostCalls = 0;
    this.everybody(this.clock.now());
  }

  private noise(ms: number): void {
    if (this.noisy) return;
    this.trace(() => `*** messages get lost for ${Math.round(ms)} ms`);
    this.noisy = true;
    this.bus.loss = 0.02 + this.random.float() * 0.1;
    this.everybody(Infinity);
    this.clock.after(ms, () => this.quiet());
  }

  private quiet(): void {
    this.noisy = false;
    this.bus.loss = 0;
    this.everybody(this.clock.now());
  }

  private makeLate(ms: number): void {
    this.trace(() => `*** documents are late for ${Math.round(ms)} ms`);
    this.late = true;
    this.everybody(Infinity);
    this.clock.after(ms, () => {
      this.late = false;
      this.everybody(this.clock.now() + 1500);
    });
  }

  private loseAnswers(ms: number): void {
    this.trace(() => `*** answers of the store get lost for ${Math.round(ms)} ms`);
    this.store.lostAnswers = 0.3;
    this.everybody(Infinity);
    this.clock.after(ms, () => {
      this.store.lostAnswers = 0;
      this.everybody(this.clock.now());
    });
  }

  private move(): void {
    const { random, plan } = this;
    const node = this.someNode();
    const target = this.someNode();
    if (!node?.ready || !target?.ready || node.life.paused) return;
    const shard = random.below(plan.shards);
    this.trace(() => `*** shard ${shard} is to go to ${target.id}`);
    node.cluster.move(shard, target.id, () => {});
  }

  private turnClock(node: Node): void {
    const skew = (this.random.float() * 2 - 1) * SKEW_MS;
    this.trace(() => `*** the clock of ${node.id} is off by ${Math.round(skew)} ms`);
    node.life.skewMs = skew;
    this.troubleEnded(node.id);
  }

  private cut(): void {
    const { random } = this;
    const open = this.connections.filter((connection) => connection.open);
    const connection = open[random.below(open.length)];
    if (!connection) return;
    const brokerLearns = random.chance(0.4) ? undefined : random.float() * 60;
    this.trace(() => `*** the connection of ${connection.client} breaks`);
    connection.break(random.float() * 60, brokerLearns);
  }

  private die(): void {
    const client = this.clients[this.random.below(this.clients.length)]!;
    this.trace(() => `*** ${client.name} dies`);
    client.die();
  }

  /** Somebody looks after the dead letters. */
  private administer(): void {
    const { random } = this;
    for (const [, owner] of this.serving()) {
      if (!this.isCurrent(owner)) continue;
      const { tasks } = owner.state;
      for (const slot of tasks.slots()) {
        if (tasks.state[slot] !== State.dead || random.chance(0.5)) continue;
        const story = this.storyAt(owner, slot);
        if (!story) continue;
        // What was asked of an owner that is about to be replaced may not come to pass.
        if (random.chance(0.3)) {
          if (owner.purge(slot)) story.purgeAsked = true;
        } else if (owner.revive(slot)) this.ledger.reviving(story);
      }
    }
  }

  private storyAt(owner: Owner, slot: number): Story | undefined {
    const mailbox = owner.state.mailboxes.name(owner.state.tasks.mailbox[slot]!).replace(/^dead:/, '');
    const { id } = owner.endings.facts(slot);
    return id.startsWith('t') ? this.ledger.find(mailbox, id) : undefined;
  }

  private busDelay(): number {
    const { random, plan } = this;
    if (this.noisy && random.chance(0.2)) return random.float() * 200;
    return random.float() * plan.busMs;
  }

  private troubleEnded(id: string): void {
    this.troubled.set(id, Math.max(this.clock.now(), this.cutOff(id) ? Infinity : 0));
  }

  private cutOff(id: string): boolean {
    for (const [from, to] of this.cuts) if (from === id || to === id) return true;
    return this.nodes.some((node) => node.id === id && (node.life.paused || node.log.deaf));
  }

  private everybody(at: number): void {
    this.ledger.unsettled();
    for (const { id } of this.nodes) if (!this.cutOff(id)) this.troubled.set(id, at);
    this.troubled.set('*', at);
  }

  // ── What the log says ────────────────────────────────────────────────────────────────────────

  private stored(by: string, shard: number, sequence: number, subject: Subject, bytes: Uint8Array): void {
    this.shadows.record(shard, sequence, subject, bytes);
    if (subject !== 'owner') return;
    const { epoch, beginsEpoch } = readOwnerHead(bytes);
    const last = this.owners[shard]!;
    if (epoch.revision === last.revision && epoch.counter === last.counter) {
      if (last.by !== by) throw new Broken(`${by} and ${last.by} are both owners of shard ${shard}`);
      return;
    }
    // Nobody can be kept from beginning an epoch; one that comes too late is void.
    if (!beginsEpoch)
      throw new Broken(`the log took what ${by} wrote as the owner of shard ${shard}, which is ${last.by}'s`);
    if (outranks(last, epoch)) {
      last.fenced = true;
      return;
    }
    this.trace(
      () => `    shard ${shard} is ${by}'s from ${sequence} on (${epoch.revision}.${epoch.counter})`,
    );
    const former = this.nodes.find(({ id }) => id === last.by);
    if (former && !last.fenced && !former.broker.shards.at(shard)) this.handedOver(shard, last);
    if (
      !former ||
      last.fenced ||
      former.broker.shards.at(shard)?.journal.idle === false ||
      former.life.paused
    )
      this.ledger.forgot();
    this.movedAt = this.clock.now();
    this.owners[shard] = { by, revision: epoch.revision, counter: epoch.counter, fenced: false };
  }

  /** Who lets go of a shard by itself has written whatever it has given away. */
  private handedOver(shard: number, { by, counter }: Ownership): void {
    for (const { lease, session } of this.ledger.held()) {
      if (lease.shard !== shard || lease.epoch !== counter) continue;
      const deliveries = this.shadows.deliveries(shard, lease);
      if (deliveries !== undefined && deliveries < lease.delivery)
        throw new Broken(`${by} handed shard ${shard} over without a lease that it had given to ${session}`);
    }
  }

  private applied(node: Node, shard: number, sequence: number): void {
    if (++this.records % this.plan.compareEvery !== 0) return;
    const owner = node.broker.shards.owner(shard);
    if (owner?.state.sequence === sequence) this.compare(owner);
    this.checkClaims(node);
  }

  /** A broker believes the latest of those who say that they are the owner. */
  private checkClaims({ id, cluster }: Node): void {
    const { peers } = (cluster as unknown as MembershipInsides).pulses;
    for (const { claims } of peers.values()) {
      for (const [shard, epoch] of claims) {
        const believed = cluster.claim(shard);
        if (!believed || outranks(epoch, believed.epoch))
          throw new Broken(`${id} knows of an owner of shard ${shard} later than ${believed?.broker}`);
      }
    }
  }

  private compare(owner: Owner): void {
    const { shard, state } = owner;
    this.shadows.checkLive(shard, state);
    // The next owner may have cut away what a former one still has.
    if (this.isCurrent(owner)) this.shadows.checkReplay(shard, this.log.extent(shard).first, state);
  }

  /** The state of all shards that are served. */
  private check(): void {
    for (const [, owner] of this.serving()) if (this.isCurrent(owner)) this.compare(owner);
  }

  private *serving(): Generator<readonly [Node, Owner]> {
    for (const node of this.nodes) for (const owner of node.broker.owners) yield [node, owner];
  }

  private isCurrent(owner: Owner): boolean {
    const { revision, counter } = this.owners[owner.shard]!;
    return owner.begun.revision === revision && owner.begun.counter === counter;
  }

  private isVoid({ holders, shard }: Decision): boolean {
    for (const [node, owner] of this.serving()) {
      if (owner.holders !== holders) continue;
      const current = this.isCurrent(owner);
      if (!current && owner.journal.confirmedAt < (this.woken.get(node) ?? -Infinity))
        throw new Broken(`${node.id} has slept, and delivers from shard ${shard}, which was taken meanwhile`);
      return !current;
    }
    throw new Broken(`shard ${shard} is served by nobody, and delivers`);
  }

  private mayDoubt(edge: string, shard: number, since: number): boolean {
    return [edge, this.owners[shard]!.by, '*'].some((id) => (this.troubled.get(id) ?? 0) + LAG_MS >= since);
  }

  private wasCalm(since: number): boolean {
    for (const at of this.troubled.values()) if (at >= since) return false;
    return this.movedAt < since;
  }

  // ── What clients find around them ────────────────────────────────────────────────────────────

  dial(client: SimClient): SimConnection | undefined {
    const { clock, random, plan, ledger } = this;
    const latencyMs = random.chance(0.05) ? plan.latencyMs * 10 : plan.latencyMs;
    const stallMs = random.chance(0.05) ? random.float() * 200 : 0;
    const wanted =
      this.sites.find(({ name }) => name === client.address) ?? this.sites[random.below(this.sites.length)];
    const node = wanted?.node;
    if (!node) return undefined;
    const end = {
      clock,
      random,
      latencyMs,
      stallMs,
      observer: ledger,
      broker: node.id,
      life: node.life,
    };
    const connection = new SimConnection(client.name, client, end);
    if (!node.accept(connection)) return undefined;
    this.connections = this.connections.filter((one) => one.open);
    this.connections.push(connection);
    return connection;
  }

  compose(): Composed {
    return this.traffic.compose();
  }

  pick(): Story | undefined {
    return this.traffic.pick();
  }

  publish(tasks: readonly Composed[]): void {
    const { random, clock, plan } = this;
    clock.after(random.float() * plan.latencyMs, () => {
      const node = this.someNode();
      if (!node?.ready || node.life.paused) return;
      const writer = new ByteWriter(1024);
      const ranges = new Ranges();
      for (const { fields } of tasks) {
        const start = writer.length;
        writeTask(writer, fields);
        ranges.add(start, writer.length);
      }
      const ticket = new Ticket(tasks.length, ({ refused }) => {
        if (random.chance(0.1)) return;
        clock.after(random.float() * plan.latencyMs, () => {
          tasks.forEach(({ nonce }, index) => {
            const refusal = refused.find((one) => one.index === index);
            this.ledger.answered(nonce, refusal && refusalOf(index, refusal.error));
          });
        });
      });
      node.broker.ingress.publish(writer.take(), ranges, {
        origin: '',
        ticket,
        assigned: () => {},
        recipients: () => {},
      });
    });
  }

  look(story: Story): void {
    const found = this.currentOwner(story);
    // It may not have read yet what was acknowledged.
    if (found?.owner.state.sequence !== this.log.extent(found ? found.owner.shard : 0).last) return;
    this.ledger.looked(story, this.stateOf(found, story));
  }

  private currentOwner({ fields: { to } }: Story): { node: Node; owner: Owner } | undefined {
    for (const [node, owner] of this.serving()) {
      if (owner.shard === node.broker.shardOf(to) && this.isCurrent(owner)) return { node, owner };
    }
    return undefined;
  }

  private stateOf({ node }: { node: Node }, { fields: { to, id } }: Story): TaskState | undefined {
    const found = findTask(node.broker, to, id);
    return found && viewTask(node.broker, found, id, to, node.life.now(), false).state;
  }

  // ── Peace ────────────────────────────────────────────────────────────────────────────────────

  /** No more trouble: whatever can end must end now. */
  private heal(): void {
    this.trace(() => '*** peace');
    this.calm = true;
    this.lead();
    this.quiet();
    this.late = false;
    this.store.lostAnswers = 0;
    this.cuts.clear();
    this.recut();
    for (const node of this.nodes) {
      this.wake(node, Infinity);
      this.rejoin(node);
    }
    const all = [...MAILBOXES, ...REPLIES];
    const subscriptions = all.map((mailbox) => ({ mailbox, window: 8, types: [], listener: false }));
    const answerBytes = this.options.heaps ? 2000 : 0;
    const idle = { actMs: Infinity, workMs: 5, fails: 0, rejects: 0, releases: 0, stalls: 0, answerBytes };
    this.clients.push(new SimClient('last one', { subscriptions, ...idle }, this));
    for (const client of this.clients) {
      if (!client.alive) continue;
      client.finish();
      // Results for a session wait for it as long as it lives.
      for (const mailbox of REPLIES) {
        if (!client.serves(mailbox)) client.attach({ mailbox, window: 4, types: [], listener: false });
      }
    }
    this.until('all is done', () => this.restless().length === 0);
    this.check();
  }

  private until(what: string, done: () => boolean, patienceMs = PATIENCE_MS): void {
    const end = this.clock.now() + patienceMs + this.plan.graceMs;
    while (!done()) {
      for (let calls = this.random.below(60); calls >= 0; calls--) this.step();
      if (this.clock.now() > end) {
        throw new Broken(`it never happens that ${what}: ${this.restless().slice(0, 6).join('; ')}`);
      }
    }
  }

  /** What is not as it should be in a cluster that has nothing to do. */
  private restless(): string[] {
    const why: string[] = [];
    const { plan } = this;
    for (const { name, node } of this.sites) if (!node?.ready) why.push(`${name} does not serve`);
    for (let shard = 0; shard < plan.shards; shard++) {
      const owners = [...this.serving()].filter(([, owner]) => owner.shard === shard);
      if (owners.length !== 1) why.push(`shard ${shard} has ${owners.length} owners`);
      for (const [node, owner] of owners) {
        if (!this.isCurrent(owner)) why.push(`the owner of shard ${shard} is not the one of the log`);
        for (const { id, cluster } of this.nodes) {
          if (cluster.claim(shard)?.broker !== node.id)
            why.push(`${id} does not know that ${node.id} serves ${shard}`);
          if (cluster.assigned(shard)?.broker !== node.id)
            why.push(`shard ${shard} is not where it is to be`);
        }
      }
    }
    for (const client of this.clients) {
      if (!client.quiet)
        why.push(
          `${client.name} (${client.sessionId}) holds ${client.held.size} and waits: ${client.waiting}`,
        );
    }
    for (const [node, owner] of this.serving()) why.push(...this.unfinished(node, owner));
    for (const node of this.nodes) why.push(...leftOver(node));
    return why;
  }

  private unfinished({ id }: Node, { state, shard, journal, holders, holds, ready }: Owner): string[] {
    const why: string[] = [];
    if (!journal.idle) why.push(`${id} has something to write to shard ${shard}`);
    if (state.outbox.size > 0) why.push(`shard ${shard} has ${state.outbox.size} parcels`);
    for (const slot of state.tasks.slots()) {
      if (state.tasks.state[slot] === State.dead) continue;
      const mailbox = state.mailboxes.name(state.tasks.mailbox[slot]!);
      const holder = holders.holderOf(slot);
      const where = state.tasks.state[slot] === State.leased ? `leased by ${holder}` : 'queued';
      why.push(
        `${shard}/${state.tasks.order[slot]}/${state.tasks.tag[slot]} in ${mailbox} is ${where} at ${id} ` +
          `(decided ${holds.decided[slot]}, ready ${ready.has(slot)}, kind ${state.tasks.kind[slot]})`,
      );
    }
    return why;
  }

  /** What was promised of everything that was ever asked of the cluster. */
  private reckon(): void {
    const { ledger } = this;
    for (const name of ledger.sound()) throw new Broken(`${name} is held, and all is done`);
    for (const story of ledger.stories.values()) {
      if (story.fields.to === '*') ledger.closeBroadcast(story);
      if (story.id === '' || story.fields.to === '*') continue;
      ledger.close(story, this.stateOf(this.currentOwner(story)!, story));
    }
  }

  /** The records of what has ended do not stay for ever. */
  private fade(): void {
    const { plan } = this;
    const short = (): boolean =>
      [...this.serving()].every(([, { shard, state }]) => {
        const known = 17 * state.dedup.size + 100 * state.awaiting.size;
        const live = state.bytes + known + plan.wasteBytes + plan.checkpointBytes;
        return this.log.extent(shard).bytes < 4 * live + 4096;
      });
    this.until('the logs are short', short, FADING_MS);
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  private loggerOf(id: string): Logger {
    const log = (fields: object, message: string): void =>
      this.trace(() => `    ${id}: ${message} ${describe(fields)}`);
    const error = (fields: object, message: string): void => {
      log(fields, message);
      if (message.includes('skipped')) this.failure ??= new Broken(`${message} ${describe(fields)}`);
    };
    const logger: Logger = { debug: log, info: log, warn: log, error, child: () => logger };
    return logger;
  }

  private trace(line: () => string): void {
    this.options.trace?.(`${(this.clock.now() - 1_000_000_000_000).toFixed(3).padStart(9)} ${line()}`);
  }
}

/** What a broker has heard of others. */
interface MembershipInsides {
  readonly pulses: { readonly peers: ReadonlyMap<string, { readonly claims: ReadonlyMap<number, Epoch> }> };
}

/** What a relay keeps; nobody else is to know. */
interface RelayInsides {
  readonly settling: ReadonlyMap<number, unknown>;
  readonly farewells: ReadonlyMap<number, unknown>;
  readonly sessions: ReadonlyMap<
    string,
    { readonly leases: ReadonlyMap<number, unknown>; readonly copies: ReadonlyMap<number, unknown> }
  >;
}

/** What is left at a broker of leases and settlements that have ended. */
function leftOver(node: Node): string[] {
  const why: string[] = [];
  for (const session of node.sessions()) {
    if (session.inFlightLeases !== 0)
      why.push(`${session.session} at ${node.id} counts ${session.inFlightLeases} leases`);
  }
  const { settling, farewells, sessions } = node.broker.relay as unknown as RelayInsides;
  if (settling.size > 0) why.push(`${node.id} waits for the answer to ${settling.size} settlements`);
  if (farewells.size > 0) why.push(`${node.id} has farewells for ${farewells.size} shards`);
  for (const [session, { leases, copies }] of sessions) {
    if (leases.size > 0) why.push(`${node.id} keeps leases of ${session}`);
    if (copies.size > 0) why.push(`${node.id} keeps copies of ${session}`);
  }
  return why;
}

function describe(fields: object): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value instanceof Error ? value.message : String(value)}`)
    .join(' ');
}
