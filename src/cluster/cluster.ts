import type { PlacementRules } from '../core/placement.ts';
import type { Layout } from '../core/pools.ts';
import type { Epoch } from '../core/shard-state.ts';
import type { HubError } from '../std/errors.ts';

/** A broker of the cluster, as it described itself when it joined. */
export interface Member {
  /** Its name and a number of this start: a restarted broker is another member. */
  readonly id: string;
  /** `host:port` at which clients reach its gRPC services; '' if only the cluster's own address works. */
  readonly address: string;
  /** Unix milliseconds. */
  readonly joinedAt: number;
  readonly version: string;
  /** The highest feature level that it speaks. */
  readonly level: number;
  /** It is being emptied: it gets no shards and no new sessions. */
  readonly draining: boolean;
  /** The pool whose shards it may own. */
  readonly pool: string;
}

/** What a broker says of itself in each pulse, beside the shards that it serves. */
export interface Vitals {
  /** 0 idle to 1 full, see `core/load.ts`. */
  readonly loadScore: number;
  readonly agents: number;
  readonly sessions: number;
  readonly tasksPerSecond: number;
  /** Mailboxes that take no more, by shard and mailbox, with the limit that they have met. A thousand at most. */
  readonly full: readonly (readonly [shard: number, mailbox: string, limit: string])[];
  /** Mailboxes of agents that somebody is attached to, by shard; shards with none are left out. */
  readonly recipients: readonly (readonly [shard: number, count: number])[];
  /** The same of namespaces beside the default one; absent: there are none. */
  readonly recipientsOf?: readonly (readonly [shard: number, namespace: string, count: number])[] | undefined;
  /** What it has of each namespace, a thousand at most; absent: there is only the default one. */
  readonly namespaces?: readonly NamespaceVitals[] | undefined;
}

/** What a broker has of a namespace; '' is the default one. */
export type NamespaceVitals = readonly [
  namespace: string,
  sessions: number,
  agents: number,
  queued: number,
  queuedBytes: number,
];

/** Who serves a shard. */
export interface Claim {
  readonly broker: string;
  readonly epoch: Epoch;
}

/** Whom the assignment names for a shard. */
export interface Assigned {
  readonly broker: string;
  /** The revision of the assignment that says so. */
  readonly revision: number;
}

/** What a {@link Cluster} tells. Calls come one after the other, never from within a call of the cluster. */
export interface ClusterListener {
  /** Other brokers are named for some shards. */
  assignmentChanged(): void;
  /** There are more pools, or other placement rules. */
  layoutChanged(): void;
  /** Another broker serves the shard now, or nobody does. */
  claimChanged(shard: number): void;
  /** A broker has come, changed its description, or is not heard any more. */
  membersChanged(): void;
  /**
   * Another broker is named for a shard that this one serves, and is ready to take it over: write what is
   * decided, stop, and {@link Cluster.release} it.
   */
  wanted(shard: number, by: string): void;
}

/**
 * Which brokers there are, which of them is to own which shard, and which does. `local.ts` is a cluster of
 * one; `membership.ts` is that of many, over a {@link Bus} and a {@link Store}.
 *
 * Nothing here is needed for safety: two brokers that both think they own a shard are kept apart by the
 * shard's log.
 */
export interface Cluster {
  /** This broker's id. */
  readonly self: string;
  /** All that are heard, this one included, in the order of their ids. */
  members(): readonly Member[];
  isLive(broker: string): boolean;
  /**
   * Since when all that this broker has said of itself has come back to it in time, as it has to the others then:
   * `Infinity` if that is not so now, as in a process that was stopped; `-Infinity` if there are no others.
   */
  heardSince(): number;
  /** What a live broker said last; `undefined` of one that has not yet said anything. */
  vitals(broker: string): Vitals | undefined;
  /** The pools and the placement rules, as far as this broker has heard; `undefined`: there is one pool and no rule. */
  layout(): Layout | undefined;
  /**
   * Makes these the placement rules, if those that they change are still the ones of their version; they have the
   * next version then. `done` is called once, later: with `aborted` if somebody else has changed them meanwhile.
   */
  place(rules: PlacementRules, done: (error: HubError | undefined) => void): void;
  /** Whom the assignment names, as far as this broker has heard. */
  assigned(shard: number): Assigned | undefined;
  /** The live broker that serves the shard; of several the one with the highest epoch. */
  claim(shard: number): Claim | undefined;
  /**
   * Asks the store whether this broker is the one to own the shard, now that it has read its log. If another
   * live broker serves it, that one is asked to let go first; `granted` is called when it has, or is gone, with
   * the revision of the assignment. Until `cancel`, it asks again and again.
   */
  acquire(shard: number, granted: (revision: number) => void): { cancel(): void };
  /** This broker serves the shard from now on: all others are told at once, and in every pulse. */
  serve(shard: number, epoch: Epoch): void;
  /** This broker does not serve the shard any more: all others are told. */
  release(shard: number): void;
  /** Whether this broker wants to be emptied, from now on. */
  drain(draining: boolean): void;
  /**
   * Assigns the shard to that broker, until somebody assigns it otherwise; it moves when that broker has read its
   * log. `done` is called once: with an error if it could not be assigned.
   */
  move(shard: number, broker: string, done: (error: HubError | undefined) => void): void;
  /** Begins: `joined` is called when the members and the assignment are known. */
  start(listener: ClusterListener, joined: (error: HubError | undefined) => void): void;
  /** Leaves: the others need not wait until they miss it. */
  stop(left: () => void): void;
}
