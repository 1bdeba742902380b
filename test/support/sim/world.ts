import type { Broker } from '../../../src/broker/broker.ts';
import { findTask, viewTask } from '../../../src/broker/tasks.ts';
import { Ticket } from '../../../src/broker/ticket.ts';
import type { Owner } from '../../../src/broker/owner.ts';
import { State } from '../../../src/core/task-table.ts';
import { FileLog } from '../../../src/log/file.ts';
import type { Durability, Log, Subject } from '../../../src/log/log.ts';
import { DURABILITY } from '../../../src/log/log.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { Ranges } from '../../../src/wire/client-frame.ts';
import type { TaskState } from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { refusalOf } from '../../../src/wire/status.ts';
import { writeTask } from '../../../src/wire/task.ts';
import { VirtualClock } from '../clock.ts';
import { SeededRandom } from '../random.ts';
import { SimStorage } from '../sim-storage.ts';
import type { Composed, Surroundings } from './client.ts';
import { SimClient } from './client.ts';
import { SimConnection } from './connection.ts';
import { watchDecisions } from './decisions.ts';
import type { Story } from './ledger.ts';
import { Broken, Ledger } from './ledger.ts';
import type { Life } from './life.ts';
import type { Plan } from './plan.ts';
import { draw } from './plan.ts';
import type { ProcessOptions } from './process.ts';
import { Process } from './process.ts';
import type { Tap } from './shadows.ts';
import { Shadows } from './shadows.ts';
import { MAILBOXES, REPLIES, Traffic } from './traffic.ts';

const MAX_ATTEMPTS = 3;
const BACKOFF = { backoffInitialMs: 10, backoffMaxMs: 60 };
const KNOWN_IDS = 65_536;
const LONG_MS = 3_600_000;
/** Virtual time after which a world without trouble must have come to rest. */
const PATIENCE_MS = 15_000;

/** More calls than this in one moment never end. */
const BUSY = 50_000;

/** What a world does beside what its seed says. */
export interface WorldOptions {
  /** Gets a line for everything that happens. */
  readonly trace?: (line: string) => void;
}

/** A broker, its disk, its clients, and all their trouble, from one seed. */
export class World implements Surroundings, Tap {
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  readonly plan: Plan;
  calm = false;
  readonly immediate = true;
  private readonly options: WorldOptions;
  private readonly disk: SimStorage;
  private readonly memory: MemoryLog | undefined;
  private readonly shadows: Shadows;
  private readonly clients: SimClient[] = [];
  private connections: SimConnection[] = [];
  private process: Process | undefined;
  private readonly traffic: Traffic;
  private records = 0;
  /** Calls in this moment. */
  private calls = 0;
  private failure: Error | undefined;

  constructor(seed: number, options: WorldOptions = {}) {
    this.options = options;
    this.random = new SeededRandom(seed);
    const { random } = this;
    this.plan = draw(random);
    const { plan } = this;
    this.clock = new VirtualClock({ random: () => random.float() });
    const { clock } = this;
    this.disk = new SimStorage(clock, random, {
      delayMs: () => (plan.diskMs === 0 || random.chance(0.3) ? 0 : random.float() * plan.diskMs),
    });
    if (plan.log === 'memory') this.memory = new MemoryLog({ clock, shards: plan.shards });
    this.shadows = new Shadows(plan.shards, KNOWN_IDS);
    this.ledger = new Ledger({
      clock,
      maxAttempts: MAX_ATTEMPTS,
      ...BACKOFF,
      shortRetention: plan.shortRetention,
      durability: DURABILITY.indexOf(this.durability) + 1,
      trace: (line) => this.trace(line),
    });
    this.traffic = new Traffic({ clock, random, ledger: this.ledger, pace: 1 });
    this.trace(() => JSON.stringify(plan));
    this.boot();
    for (let index = 0; index < plan.clients; index++) {
      this.clients.push(new SimClient(`client ${index}`, this.traffic.temper(), this));
    }
  }

  private get durability(): Durability {
    if (this.plan.log === 'memory') return 'memory';
    return this.plan.sync === 'always' ? 'synced' : 'stored';
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
    const { plan, random } = this;
    for (let step = 0; step < plan.steps; step++) {
      this.step();
      const chance = random.float();
      let least = 0;
      const happens = (probability: number): boolean => chance >= least && chance < (least += probability);
      if (happens(plan.crash)) this.crash();
      else if (happens(plan.stop)) this.process?.stop(random.below(200));
      else if (happens(plan.cut)) this.cut();
      else if (happens(plan.die)) this.die();
      else if (happens(plan.diskFailure)) this.failDisk();
      else if (happens(plan.admin)) this.administer();
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

  /** The process dies, or the power fails; another process begins a while later. */
  private crash(): void {
    const power = this.plan.sync === 'always' && this.random.chance(0.5);
    this.trace(() => (power ? '*** the power fails' : '*** the broker dies'));
    this.bury(power);
    this.bootLater();
  }

  private bury(power: boolean): void {
    const { process, random } = this;
    if (!process) return;
    this.check();
    process.kill(() => random.float() * 20);
    if (power) this.disk.crash();
    else this.disk.kill();
    this.process = undefined;
    this.ledger.restarted();
  }

  private bootLater(): void {
    this.clock.after(this.random.float() * 30, () => this.boot());
  }

  private boot(): void {
    if (this.process) return;
    const { plan, clock, random } = this;
    this.trace(() => '*** the broker starts');
    const kept = plan.shortRetention ? 200 + random.below(400) : LONG_MS;
    const options: ProcessOptions = {
      clock,
      random,
      logger: this.logger,
      tap: this,
      broker: {
        limits: {
          taskBytes: 64 * 1024,
          batchTasks: 100,
          mailboxes: 1000,
          mailboxDepth: plan.mailboxDepth,
          mailboxBytes: 1024 * 1024,
          memoryHighWaterBytes: 1,
        },
        delivery: {
          maxAttempts: MAX_ATTEMPTS,
          ...BACKOFF,
          balance: random.chance(0.5) ? 'round-robin' : 'capacity',
        },
        retention: {
          taskMs: kept,
          resultMs: kept,
          deadLetterMs: kept,
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
        heartbeatMs: 40,
        timeoutMs: 130,
        graceMs: plan.graceMs,
        maxWindow: 8,
        maxAttachments: 100,
        maxAgents: 100,
        frameBytes: 1024 * 1024,
        taskBytes: 64 * 1024,
        batchTasks: 100,
      },
      open: (life, done) => this.openLog(life, done),
      // What a former process left to fan out it does once all may be back, and looks that often whether they may.
      ready: (life) => {
        life.after(plan.graceMs, () => this.ledger.sessionsBack());
        life.after(2 * plan.graceMs, () => this.ledger.fannedOut());
      },
      ended: (error) => this.processEnded(error),
    };
    this.process = new Process(options);
  }

  private openLog(life: Life, done: (error: HubError | undefined, log: Log | undefined) => void): void {
    const { plan, memory } = this;
    if (memory) return done(undefined, memory);
    FileLog.recover(
      {
        storage: this.disk,
        clock: life,
        logger: this.logger,
        shards: plan.shards,
        generation: '0123456789abcdef0123456789abcdef',
        sync: plan.sync,
        syncIntervalMs: 20,
        segmentBytes: plan.segmentBytes,
      },
      done,
    );
  }

  private processEnded(error: HubError | undefined): void {
    this.trace(() => `*** the broker has ended: ${error ? error.message : 'as it was told'}`);
    if (error?.code === 'corrupt') throw new Broken(`the log is damaged: ${error.message}`);
    this.bury(false);
    this.bootLater();
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

  private failDisk(): void {
    const { random } = this;
    if (!this.process?.ready) return;
    const kind = random.below(4);
    const [operation, code] = (
      [
        ['write', 'ENOSPC'],
        ['create', 'ENOSPC'],
        ['write', 'EIO'],
        ['sync', 'EIO'],
      ] as const
    )[kind]!;
    this.trace(() => `*** the next ${operation} fails with ${code}`);
    this.disk.failNext(operation, code);
  }

  /** Somebody looks after the dead letters. */
  private administer(): void {
    const { random } = this;
    if (!this.process?.ready) return;
    for (const owner of this.owners) {
      const { tasks } = owner.state;
      for (const slot of tasks.slots()) {
        if (tasks.state[slot] !== State.dead || random.chance(0.5)) continue;
        const story = this.storyAt(owner, slot);
        if (!story) continue;
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

  // ── What the broker reads ────────────────────────────────────────────────────────────────────

  record(shard: number, sequence: number, subject: Subject, bytes: Uint8Array): void {
    this.shadows.record(shard, sequence, subject, bytes);
  }

  applied(shard: number): void {
    if (++this.records % this.plan.compareEvery !== 0) return;
    const owner = this.process?.broker?.shards.owner(shard);
    if (!owner) return;
    this.shadows.checkLive(shard, owner.state);
    this.shadows.checkReplay(shard, this.process!.log!.extent(shard).first);
  }

  caughtUp(shard: number): void {
    this.shadows.checkLive(shard, this.process!.broker!.shards.at(shard)!.state);
  }

  way(): { ms: number; lost: boolean } {
    const { random, plan } = this;
    if (this.calm || !random.chance(plan.detour)) return { ms: 0, lost: false };
    return { ms: random.float() * (random.chance(0.2) ? 1000 : 100), lost: random.chance(0.3) };
  }

  /** The state of all shards that are served. */
  private check(): void {
    for (const owner of this.owners) {
      if (!owner.serving) continue;
      this.shadows.checkLive(owner.shard, owner.state);
      this.shadows.checkReplay(owner.shard, this.process!.log!.extent(owner.shard).first);
    }
  }

  private get owners(): readonly Owner[] {
    return this.process?.broker?.owners ?? [];
  }

  // ── What clients find around them ────────────────────────────────────────────────────────────

  dial(client: SimClient): SimConnection | undefined {
    const { clock, random, plan, ledger } = this;
    const latencyMs = random.chance(0.05) ? plan.latencyMs * 10 : plan.latencyMs;
    const stallMs = random.chance(0.05) ? random.float() * 200 : 0;
    const { process } = this;
    if (!process) return undefined;
    const { life } = process;
    const end = { clock, random, latencyMs, stallMs, observer: ledger, broker: 'sim', life };
    const connection = new SimConnection(client.name, client, end);
    if (!process.accept(connection)) return undefined;
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
    this.call((answer) => {
      const writer = new ByteWriter(1024);
      const ranges = new Ranges();
      for (const { fields, nonce } of tasks) {
        this.ledger.got(nonce);
        const start = writer.length;
        writeTask(writer, fields);
        ranges.add(start, writer.length);
      }
      const ticket = new Ticket(tasks.length, ({ refused }) =>
        answer(() => {
          tasks.forEach(({ nonce }, index) => {
            const refusal = refused.find((one) => one.index === index);
            this.ledger.answered(nonce, refusal && refusalOf(index, refusal.error));
          });
        }),
      );
      this.process!.broker!.ingress.publish(writer.take(), ranges, {
        origin: '',
        ticket,
        assigned: () => {},
        recipients: () => {},
      });
    });
  }

  look(story: Story): void {
    this.call(() => {
      this.ledger.looked(story, this.stateOf(this.process!.broker!, story));
    });
  }

  private stateOf(broker: Broker, { fields: { to, id } }: Story): TaskState | undefined {
    const found = findTask(broker, to, id);
    return found && viewTask(broker, found, id, to, this.clock.now(), false).state;
  }

  /** A unary call: it gets to the broker, and its answer back, in some time or never. */
  private call(run: (answer: (then: () => void) => void) => void): void {
    const { random, clock, plan } = this;
    clock.after(random.float() * plan.latencyMs, () => {
      const { process } = this;
      if (!process?.ready) return;
      run((then) => {
        if (random.chance(0.1)) return;
        clock.after(random.float() * plan.latencyMs, then);
      });
    });
  }

  // ── Peace ────────────────────────────────────────────────────────────────────────────────────

  /** No more trouble: whatever can end must end now. */
  private heal(): void {
    this.trace(() => '*** peace');
    this.calm = true;
    this.until('the broker serves', () => this.process?.ready === true);
    const all = [...MAILBOXES, ...REPLIES];
    const subscriptions = all.map((mailbox) => ({ mailbox, window: 8, types: [], listener: false }));
    const idle = { actMs: Infinity, workMs: 5, fails: 0, rejects: 0, releases: 0, stalls: 0 };
    this.clients.push(new SimClient('last one', { subscriptions, ...idle }, this));
    for (const client of this.clients) {
      if (!client.alive) continue;
      client.finish();
      // Results for a session wait for it as long as it lives.
      for (const mailbox of REPLIES) {
        if (!client.serves(mailbox)) client.attach({ mailbox, window: 4, types: [], listener: false });
      }
    }
    this.until('all is done', () => this.atRest());
    this.check();
  }

  private atRest(): boolean {
    if (!this.process?.ready || !this.clients.every((client) => client.quiet)) return false;
    return this.owners.every(({ state, journal }) => {
      if (!journal.idle || state.outbox.size > 0) return false;
      for (const slot of state.tasks.slots()) if (state.tasks.state[slot] !== State.dead) return false;
      return true;
    });
  }

  private until(what: string, done: () => boolean): void {
    const end = this.clock.now() + PATIENCE_MS;
    while (!done()) {
      for (let calls = this.random.below(30); calls >= 0; calls--) this.step();
      if (this.clock.now() > end) throw new Broken(`it never happens that ${what}: ${this.restless()}`);
    }
  }

  private restless(): string {
    const why: string[] = [];
    if (!this.process?.ready) why.push('the broker does not serve');
    for (const client of this.clients) {
      if (!client.quiet)
        why.push(
          `${client.name} (${client.sessionId}) holds ${client.held.size} and waits: ${client.waiting}`,
        );
    }
    for (const owner of this.owners) {
      const { state, shard, journal } = owner;
      if (!journal.idle) why.push(`shard ${shard} has something to write`);
      if (state.outbox.size > 0) why.push(`shard ${shard} has ${state.outbox.size} parcels`);
      for (const slot of state.tasks.slots()) {
        if (state.tasks.state[slot] === State.dead) continue;
        const mailbox = state.mailboxes.name(state.tasks.mailbox[slot]!);
        why.push(
          `${shard}/${state.tasks.order[slot]}/${state.tasks.tag[slot]} in ${mailbox} is ${state.tasks.state[slot] === State.leased ? `leased by ${owner.holders.holderOf(slot)}` : 'queued'} (decided ${owner.holds.decided[slot]}, ready ${owner.ready.has(slot)}, kind ${state.tasks.kind[slot]})`,
        );
      }
    }
    return why.slice(0, 6).join('; ');
  }

  /** What was promised of everything that was ever asked of the broker. */
  private reckon(): void {
    const { ledger, process } = this;
    const broker = process!.broker!;
    for (const name of ledger.sound()) throw new Broken(`${name} is held, and all is done`);
    for (const session of process!.sessions()) {
      const { inFlightLeases: left } = session;
      if (left !== 0) throw new Broken(`${session.session} counts ${left} leases, and all is done`);
    }
    for (const story of ledger.stories.values()) {
      if (story.fields.to === '*') ledger.closeBroadcast(story);
      if (story.id === '' || story.fields.to === '*') continue;
      ledger.close(story, this.stateOf(broker, story));
    }
  }

  /** Nothing stays for ever: neither dead letters nor the records of what has ended. */
  private fade(): void {
    const { plan } = this;
    if (plan.shortRetention) {
      this.until('nothing is left', () => this.owners.every(({ state }) => state.tasks.count === 0));
    }
    this.until('all duplicates are dropped', () =>
      this.owners.every(({ state }) => state.undropped.size === 0),
    );
    this.until('the log is short', () =>
      this.owners.every(({ shard, state }) => {
        const live = state.bytes + 17 * state.dedup.size + plan.wasteBytes + plan.checkpointBytes;
        return this.process!.log!.extent(shard).bytes < 4 * live + 4096;
      }),
    );
    this.bury(false);
    this.bootLater();
    this.until('the broker serves again', () => this.atRest());
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  private get logger(): Logger {
    const log = (fields: object, message: string): void =>
      this.trace(() => `    ${message} ${describe(fields)}`);
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

function describe(fields: object): string {
  return Object.entries(fields)
    .map(
      ([name, value]) => `${name}=${value instanceof Error ? (value.stack ?? value.message) : String(value)}`,
    )
    .join(' ');
}
