import type { Member } from '../cluster/cluster.ts';
import type { Berth, Steering } from '../core/steer.ts';
import { homeOf, overflow } from '../core/steer.ts';
import type { Clock, Random } from '../std/clock.ts';
import type { Broker } from './broker.ts';
import type { EdgeSession } from './sessions.ts';

/** Of the sessions that should go, so many are asked to at a time: they shall not all reconnect at once. */
const SHARE = 0.1;
/** A session that was asked is left alone for this long, in milliseconds, wherever it is by then. */
const REST_MS = 30_000;
/** And so is one that has just come. */
const SETTLED_MS = 2_000;
const REASON = 'another broker serves this session better';

/** What a {@link Helm} is made of. */
export interface HelmOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly random: Random;
  readonly mode: Steering;
}

/**
 * Points sessions to the brokers that serve them best: the owner of most of what they are attached to, or one that
 * has less to do. Which is a matter of speed only: everything works through any broker.
 */
export class Helm {
  private readonly options: HelmOptions;
  private readonly asked = new Map<string, number>();

  constructor(options: HelmOptions) {
    this.options = options;
  }

  /** Looks whether sessions should be elsewhere, and asks some of them to go. */
  look(): void {
    const { broker, clock, mode } = this.options;
    if (mode === 'stay' || broker.phase !== 'ready') return;
    const now = clock.now();
    for (const [session, at] of this.asked) if (now - at > REST_MS) this.asked.delete(session);
    const addresses = new Map(
      broker.others().flatMap(({ id, address }) => (address === '' ? [] : [[id, address] as const])),
    );
    if (addresses.size === 0) return;
    const movable = [...broker.sessions.values()].filter(
      ({ connected, stays, session, startedAt }) =>
        connected && !stays && !this.asked.has(session) && now - startedAt > SETTLED_MS,
    );
    const homeless = mode === 'owner' ? this.sendHome(movable, addresses) : movable;
    this.level(homeless, addresses);
  }

  /** Asks those to go whose home is elsewhere; answers with those that have none. */
  private sendHome(sessions: readonly EdgeSession[], addresses: ReadonlyMap<string, string>): EdgeSession[] {
    const homeless: EdgeSession[] = [];
    const away: [EdgeSession, string][] = [];
    for (const session of sessions) {
      const owners = this.ownersOf(session);
      const address = addresses.get(homeOf(this.options.broker.id, owners) ?? '');
      if (address !== undefined) away.push([session, address]);
      else if (owners.size === 0) homeless.push(session);
    }
    for (const [session, address] of away.slice(0, atATime(away.length))) this.ask(session, address);
    return homeless;
  }

  /** Asks some to go to a broker that has less to do. */
  private level(sessions: readonly EdgeSession[], addresses: ReadonlyMap<string, string>): void {
    const { broker, random, mode } = this.options;
    const others = broker.others().filter(({ id }) => addresses.has(id));
    const excess = overflow(
      mode,
      this.berth(broker.id),
      others.map(({ id }: Member) => this.berth(id)),
    );
    const address = excess && addresses.get(excess.to);
    if (address === undefined) return;
    const count = atATime(Math.ceil(broker.sessions.size * excess!.share));
    const from = Math.floor(random.float() * Math.max(1, sessions.length - count));
    for (const session of sessions.slice(from, from + count)) this.ask(session, address);
  }

  private berth(id: string): Berth {
    const { broker } = this.options;
    const vitals = broker.cluster.vitals(id);
    const sessions = id === broker.id ? broker.sessions.size : (vitals?.sessions ?? 0);
    return { id, loadScore: vitals?.loadScore ?? 0, sessions };
  }

  /** Its attachments by the brokers that serve them. */
  private ownersOf(session: EdgeSession): Map<string, number> {
    const { cluster } = this.options.broker;
    const owners = new Map<string, number>();
    for (const { shard } of session.seats()) {
      const broker = cluster.claim(shard)?.broker;
      if (broker !== undefined) owners.set(broker, (owners.get(broker) ?? 0) + 1);
    }
    return owners;
  }

  private ask(session: EdgeSession, address: string): void {
    this.asked.set(session.session, this.options.clock.now());
    session.goAway(REASON, 0, false, address);
  }
}

function atATime(count: number): number {
  return count === 0 ? 0 : Math.max(1, Math.ceil(count * SHARE));
}
