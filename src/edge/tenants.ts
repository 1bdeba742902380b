import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import type { Publication } from '../broker/ingress.ts';
import { Ticket } from '../broker/ticket.ts';
import type { Intake } from '../broker/traces.ts';
import type { NamespaceVitals } from '../cluster/cluster.ts';
import { DEFAULT_NAMESPACE, DEFAULT_NAMESPACE_WORD, namespaceOf } from '../core/namespace.ts';
import type { NamespaceMetrics } from '../obs/metrics.ts';
import { Rate } from '../obs/instruments.ts';
import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import { Namespaces } from '../trust/namespaces.ts';
import type { NamespaceLimits, NamespaceTerms } from '../trust/namespaces.ts';
import { ByteWriter } from '../wire/bytes.ts';
import { Ranges } from '../wire/client-frame.ts';
import { Names } from '../wire/names.ts';

/** What mailboxes hold is counted anew after this long, in milliseconds, or after so many times what that took. */
const COUNT_MS = 500;
const COUNT_SHARE = 20;
/** Sessions and agents are, at once if one more would be too many, but not more often than this. */
const PRESENT_MS = 20;
/** Namespaces of which other brokers are told. */
const TOLD = 1000;
/** Namespaces that are remembered though nobody of them is here. */
const REMEMBERED = 10_000;
const RETRY_MS = 1000;

/** What there is of a namespace. */
interface Amount {
  sessions: number;
  agents: number;
  queued: number;
  running: number;
  queuedBytes: number;
}

/** What {@link Tenants} are made of. */
export interface TenantsOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  /** What is said of namespaces now; default: nothing. */
  readonly namespaces?: (() => Namespaces) | undefined;
  /** Whether there may be somebody of a namespace anywhere in the cluster; default: if there is somebody here. */
  readonly expected?: (() => boolean) | undefined;
}

/** The namespaces that have something to do with this broker: what they have of it, and what they may have. */
export class Tenants {
  private readonly broker: Broker;
  private readonly clock: Clock;
  private readonly namespaces: () => Namespaces;
  private readonly expected: () => boolean;
  /** Those beside the default one. */
  private readonly tenants = new Map<string, Tenant>();
  private readonly everybody: Tenant;
  private held: ReadonlyMap<string, Amount> = new Map();
  private heldUntil = -Infinity;
  private present: ReadonlyMap<string, Amount> = new Map();
  private presentAt = -Infinity;

  constructor({ broker, clock, namespaces = () => Namespaces.none, expected = () => false }: TenantsOptions) {
    this.broker = broker;
    this.clock = clock;
    this.namespaces = namespaces;
    this.expected = expected;
    this.everybody = new Tenant({ tenants: this, broker, clock, names: Names.of(DEFAULT_NAMESPACE) });
  }

  /** Whether anybody of a namespace beside the default one has come here. */
  get divided(): boolean {
    return this.tenants.size > 0;
  }

  /** The namespace of those names. */
  of(names: Names): Tenant {
    if (names.isDefault) return this.everybody;
    const { namespace } = names;
    let tenant = this.tenants.get(namespace);
    if (tenant) return tenant;
    if (this.tenants.size >= REMEMBERED) this.forget();
    const { broker, clock } = this;
    tenant = new Tenant({ tenants: this, broker, clock, names });
    this.tenants.set(namespace, tenant);
    return tenant;
  }

  /** What is said of that namespace. */
  termsOf(namespace: string): NamespaceTerms {
    return this.namespaces().termsOf(namespace);
  }

  /** What this broker has of that namespace. */
  here(namespace: string): Amount {
    const held = this.count().get(namespace);
    const present = this.attend().get(namespace);
    return {
      sessions: present?.sessions ?? 0,
      agents: present?.agents ?? 0,
      queued: held?.queued ?? 0,
      running: held?.running ?? 0,
      queuedBytes: held?.queuedBytes ?? 0,
    };
  }

  /** The same, with what has come of it. */
  figuresOf(namespace: string): Amount & Tenant['throughput'] {
    const throughput = this.tenants.get(namespace)?.throughput ?? { accepted: 0, perSecond: 0 };
    return { ...this.here(namespace), ...throughput };
  }

  /** The same of all brokers, the others as they were half a second ago. */
  everywhere(namespace: string): Amount {
    const sum = this.here(namespace);
    const { cluster } = this.broker;
    for (const { id } of cluster.members()) {
      if (id === cluster.self) continue;
      for (const [name, sessions, agents, queued, queuedBytes] of cluster.vitals(id)?.namespaces ?? []) {
        if (name !== namespace) continue;
        sum.sessions += sessions;
        sum.agents += agents;
        sum.queued += queued;
        sum.queuedBytes += queuedBytes;
      }
    }
    return sum;
  }

  /** What the other brokers must know to keep the limits of namespaces. */
  vitals(): { readonly namespaces?: readonly NamespaceVitals[] } {
    if (!this.divided && !this.expected()) return {};
    const namespaces = this.names()
      .slice(0, TOLD)
      .map((name): NamespaceVitals => {
        const { sessions, agents, queued, queuedBytes } = this.here(name);
        return [name, sessions, agents, queued, queuedBytes];
      });
    return { namespaces };
  }

  /** What it has of each namespace, by the names of people; nothing while there is only the default one. */
  figures(): readonly (readonly [namespace: string, amount: Amount])[] {
    if (!this.divided && !this.expected()) return [];
    return this.names().map((name) => [wordFor(name), this.here(name)]);
  }

  private names(): string[] {
    return [...new Set([...this.count().keys(), ...this.attend().keys()])].sort();
  }

  /** What its mailboxes hold. */
  private count(): ReadonlyMap<string, Amount> {
    const { clock, broker } = this;
    const began = clock.now();
    if (began < this.heldUntil) return this.held;
    const held = new Map<string, Amount>();
    for (const { state } of broker.owners) {
      const { mailboxes } = state;
      for (const [name, id] of mailboxes.entries()) {
        const amount = amountOf(held, namespaceOf(name));
        amount.queued += mailboxes.queued[id]!;
        amount.running += mailboxes.leased[id]!;
        amount.queuedBytes += mailboxes.bytes[id]!;
      }
    }
    this.held = held;
    for (const tenant of [this.everybody, ...this.tenants.values()]) tenant.counted();
    const now = clock.now();
    this.heldUntil = now + Math.max(COUNT_MS, COUNT_SHARE * (now - began));
    return held;
  }

  /** Who is connected to it. */
  attend(force = false): ReadonlyMap<string, Amount> {
    const now = this.clock.now();
    const age = now - this.presentAt;
    if (age >= 0 && age < (force ? PRESENT_MS : COUNT_MS)) return this.present;
    const present = new Map<string, Amount>();
    for (const session of this.broker.sessions.values()) {
      const amount = amountOf(present, session.namespace ?? DEFAULT_NAMESPACE);
      amount.sessions++;
      amount.agents += session.agents;
    }
    this.present = present;
    this.presentAt = now;
    for (const tenant of [this.everybody, ...this.tenants.values()]) tenant.attended();
    return present;
  }

  private forget(): void {
    const present = this.attend();
    for (const name of this.tenants.keys()) if (!present.has(name)) this.tenants.delete(name);
  }
}

/** What a {@link Tenant} is made of. */
interface TenantOptions {
  readonly tenants: Tenants;
  readonly broker: Broker;
  readonly clock: Clock;
  readonly names: Names;
}

/** One namespace at one broker: what comes in of it, and whether it may. */
export class Tenant {
  readonly names: Names;
  private readonly tenants: Tenants;
  private readonly broker: Broker;
  private readonly clock: Clock;
  private readonly metrics: NamespaceMetrics | undefined;
  private readonly accepted: Rate;
  private taken = 0;
  private readonly writer = new ByteWriter();
  private readonly gate: Intake = { publish: (...said) => this.publish(...said) };
  /** Tasks that it may publish at once; one more each time that a task's share of a second has passed. */
  private tokens = Infinity;
  private filledAt = 0;
  /** What has come since it was last counted. */
  private moreQueued = 0;
  private moreBytes = 0;
  private moreSessions = 0;
  private moreAgents = 0;

  constructor({ tenants, broker, clock, names }: TenantOptions) {
    this.names = names;
    this.tenants = tenants;
    this.broker = broker;
    this.clock = clock;
    this.metrics = names.isDefault ? undefined : broker.metrics.namespaces.of(names.namespace);
    this.accepted = new Rate(clock, () => this.taken);
  }

  /** Its share of a busy broker, beside those of others. */
  get weight(): number {
    return this.tenants.termsOf(this.names.namespace).weight;
  }

  /** The way in for its tasks. That of the default namespace is the broker's own, unless it has limits. */
  get intake(): Intake {
    const { names, tenants, broker } = this;
    return names.isDefault && !tenants.termsOf(names.namespace).limited ? broker.intake : this.gate;
  }

  /** Tasks that were accepted from it here, and how many a second these are now. */
  get throughput(): { readonly accepted: number; readonly perSecond: number } {
    return { accepted: this.taken, perSecond: this.accepted.perSecond() };
  }

  /** A task, or a copy of one, was handed to one of its sessions. */
  delivered(): void {
    this.metrics?.delivered.add();
  }

  /** Counts one more session. @throws HubError `exhausted` if that is too many. */
  enter(): void {
    this.admit('sessions', this.moreSessions);
    this.moreSessions++;
  }

  /** Counts one more agent. @throws HubError `exhausted` if that is too many. */
  host(): void {
    this.admit('agents', this.moreAgents);
    this.moreAgents++;
  }

  counted(): void {
    this.moreQueued = this.moreBytes = 0;
  }

  attended(): void {
    this.moreSessions = this.moreAgents = 0;
  }

  private get limits(): NamespaceLimits {
    return this.tenants.termsOf(this.names.namespace).limits;
  }

  private admit(what: 'sessions' | 'agents', more: number): void {
    const most = this.limits[what];
    if (most === Infinity) return;
    const there = (): number => this.tenants.everywhere(this.names.namespace)[what];
    if (there() + more < most) return;
    this.tenants.attend(true);
    const left = what === 'sessions' ? this.moreSessions : this.moreAgents;
    if (there() + left < most) return;
    throw this.met(what, `has ${most} ${what} already`, RETRY_MS);
  }

  private publish(bytes: Uint8Array, tasks: Ranges, publication: Publication): void {
    const { names, writer, broker } = this;
    const { ticket } = publication;
    const full = this.full();
    const places = new Ranges();
    const indexes: number[] = [];
    const refused: { index: number; error: HubError }[] = [];
    writer.length = 0;
    for (let index = 0; index < tasks.count; index++) {
      const from = writer.length;
      try {
        if (full) throw full;
        this.take();
        if (names.isDefault) writer.bytes(bytes, tasks.start(index), tasks.end(index));
        else names.enterTask(bytes, tasks.start(index), tasks.end(index), writer);
        places.add(from, writer.length);
        indexes.push(index);
      } catch (error) {
        writer.length = from;
        refused.push({ index, error: toHubError(error) });
      }
    }
    const entered = Buffer.from(writer.written());
    this.moreQueued += indexes.length;
    this.moreBytes += entered.length;
    const inner = new Ticket(indexes.length, ({ refused: some }) => {
      for (const { index, error } of some) ticket.refuse(indexes[index]!, error);
      const accepted = indexes.length - some.length;
      this.taken += accepted;
      this.metrics?.accepted.add(accepted);
      if (accepted > 0) ticket.done(accepted);
    });
    if (indexes.length > 0) {
      const { assigned, recipients } = publication;
      broker.intake.publish(entered, places, {
        ...publication,
        ...(names.isDefault ? {} : { namespace: names.namespace }),
        ticket: inner,
        assigned: (index, id) => assigned(indexes[index]!, id),
        recipients: (index, count) => recipients(indexes[index]!, count),
      });
    }
    for (const { index, error } of refused) {
      broker.metrics.refused.of(error.code).add();
      ticket.refuse(index, error);
    }
  }

  /** The limit that what waits for it has met, if it has. */
  private full(): HubError | undefined {
    const { queued, queuedBytes } = this.limits;
    if (queued === Infinity && queuedBytes === Infinity) return undefined;
    const there = this.tenants.everywhere(this.names.namespace);
    if (there.queued + this.moreQueued >= queued)
      return this.met('queued', `has ${queued} tasks waiting already; add workers`, RETRY_MS);
    if (there.queuedBytes + this.moreBytes >= queuedBytes)
      return this.met('queuedBytes', `has ${queuedBytes} bytes waiting already; add workers`, RETRY_MS);
    return undefined;
  }

  /** Takes a task's share of a second. @throws HubError `exhausted` if none is left. */
  private take(): void {
    const { tasksPerSecond } = this.limits;
    if (tasksPerSecond === Infinity) return;
    const now = this.clock.now();
    const fresh = (Math.max(0, now - this.filledAt) * tasksPerSecond) / 1000;
    this.tokens = Math.min(tasksPerSecond, this.tokens + fresh);
    this.filledAt = now;
    if (this.tokens >= 1) {
      this.tokens--;
      return;
    }
    const wait = tasksPerSecond === 0 ? RETRY_MS : Math.ceil(((1 - this.tokens) * 1000) / tasksPerSecond);
    throw this.met('tasksPerSecond', `may publish ${tasksPerSecond} tasks a second at this broker`, wait);
  }

  private met(what: keyof NamespaceLimits, words: string, retryAfterMs: number): HubError {
    const name = `namespaces.${what}`;
    this.broker.metrics.limits.of(name).add();
    this.metrics?.refused[what].add();
    return limit(name, `the namespace ${wordFor(this.names.namespace)} ${words}`, retryAfterMs);
  }
}

function wordFor(namespace: string): string {
  return namespace === DEFAULT_NAMESPACE ? DEFAULT_NAMESPACE_WORD : namespace;
}

function amountOf(amounts: Map<string, Amount>, namespace: string): Amount {
  let amount = amounts.get(namespace);
  if (!amount) {
    amount = { sessions: 0, agents: 0, queued: 0, running: 0, queuedBytes: 0 };
    amounts.set(namespace, amount);
  }
  return amount;
}
