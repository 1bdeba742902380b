import { Barrier } from '../../../src/broker/barrier.ts';
import { Endings } from '../../../src/broker/endings.ts';
import { Guests } from '../../../src/broker/guests.ts';
import { Ingress } from '../../../src/broker/ingress.ts';
import { Journal } from '../../../src/broker/journal.ts';
import { LeaseQueue } from '../../../src/broker/lease-queue.ts';
import { Relay } from '../../../src/broker/relay.ts';
import { Standing } from '../../../src/broker/standing.ts';
import type { Ticket } from '../../../src/broker/ticket.ts';
import { Channel } from '../../../src/cluster/link.ts';
import { Pulses } from '../../../src/cluster/pulses.ts';
import { Batches } from '../../../src/core/batches.ts';
import { Outbox } from '../../../src/core/outbox.ts';
import type { Epoch } from '../../../src/core/shard-state.ts';
import { outranks } from '../../../src/core/shard-state.ts';
import { NONE } from '../../../src/core/task-table.ts';
import type { LogReader } from '../../../src/log/log.ts';
import type { RelayedSession } from '../../../src/wire/edge-ops.ts';
import { OwnerRecordWriter } from '../../../src/wire/owner-record.ts';
import type { ClusterPlan, Fault } from './cluster-plan.ts';
import { FAULTS } from './cluster-plan.ts';
import type { Remove } from './planted.ts';
import { replace } from './planted.ts';
import { ReplicatedLogEnd } from './replicated-log.ts';

type Claims = Map<string, { readonly id: string; readonly claims: ReadonlyMap<number, Epoch> }>;

/** A mistake of brokers that share a log. */
export interface ClusterBug {
  readonly plant: () => Remove;
  /** Where it shows best: a seed that has found it, and what happens there in any case. */
  readonly hint: number;
  readonly plan?: Partial<ClusterPlan>;
}

const NOTHING = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;

/** Nothing happens but that, and often. */
function only(
  weights: Partial<Record<Fault, number>>,
  more: Partial<ClusterPlan> = {},
): Partial<ClusterPlan> {
  return {
    weights: { ...NOTHING, ...weights },
    faultMs: 300,
    troubleMs: 10_000,
    brokers: 3,
    clients: 5,
    ...more,
  };
}

/** How each is planted, by what is wrong then. */
export const CLUSTER_BUGS: Readonly<Record<string, ClusterBug>> = {
  'appends are not fenced': {
    plant: () =>
      replace(Journal, 'send', (_, original, [bytes, , ...rest]) => original(bytes, undefined, ...rest)),
    hint: 1,
    plan: only({ pause: 3, isolation: 1, partition: 1 }, { logMs: 20 }),
  },
  'copies of old tasks are not fenced': {
    plant: () => {
      let copies = false;
      const removes = [
        replace(OwnerRecordWriter, 'copy', (_, original, args) => {
          copies = true;
          original(...args);
        }),
        replace(Journal, 'send', (_, original, [bytes, expected, ...rest]) => {
          original(bytes, copies ? undefined : expected, ...rest);
          copies = false;
        }),
      ];
      return () => removes.forEach((remove) => remove());
    },
    hint: 5,
    plan: only({ pause: 3, isolation: 1, partition: 1 }, { logMs: 20, wasteBytes: 256, upkeepMs: 100 }),
  },
  'a new owner delivers before edges have said what they hold': {
    plant: () =>
      replace(Barrier, 'raise', (_, __, [, , , passed]: [unknown, unknown, unknown, () => void]) => passed()),
    hint: 3,
  },
  'a shard is handed over without its youngest leases': {
    plant: () =>
      replace(LeaseQueue, 'take', (_, original, [until, most, visit]: unknown[]) =>
        original(until, most, until === Infinity ? () => {} : visit),
      ),
    hint: 2,
    plan: only({ move: 1 }, { busMs: 0.5, logMs: 0.5 }),
  },
  'a replay skips the last record': {
    plant: () =>
      replace(
        ReplicatedLogEnd,
        'read',
        (self: ReplicatedLogEnd, original, [shard, from, reader]: [number, number, LogReader]) => {
          const { last } = self.extent(shard);
          return original(shard, from, {
            ...reader,
            record: (...[sequence, subject, bytes]: Parameters<LogReader['record']>) => {
              if (sequence !== last) reader.record(sequence, subject, bytes);
            },
          });
        },
      ),
    hint: 1,
  },
  'leases are forgotten when their shard moves': {
    plant: () => replace(Relay, 'heldIn', () => []),
    hint: 1,
  },
  'leases that an owner gave to its own sessions are forgotten when it is replaced': {
    plant: () => replace(Relay, 'hold', () => undefined),
    hint: 1,
  },
  'an incarnation that was replaced is accepted': {
    plant: () =>
      replace(
        Guests,
        'session',
        (
          self: { options: { sessions: { get(id: string): object | undefined } } },
          original,
          [ref, told]: [number, RelayedSession],
        ) => {
          const known = self.options.sessions.get(told.id) as { incarnation: number } | undefined;
          original(ref, { ...told, incarnation: Math.max(told.incarnation, known?.incarnation ?? 0) });
        },
      ),
    hint: 10,
  },
  'the lowest claim counts': {
    plant: () =>
      replace(
        Pulses,
        'rank',
        (
          self: { peers: Claims; best: Map<number, unknown>; options: { claimChanged(shard: number): void } },
          _,
          [shard]: [number],
        ) => {
          let best: { broker: string; epoch: Epoch } | undefined;
          for (const { id, claims } of self.peers.values()) {
            const epoch = claims.get(shard);
            if (epoch && (!best || outranks(best.epoch, epoch))) best = { broker: id, epoch };
          }
          if (best) self.best.set(shard, best);
          else self.best.delete(shard);
          self.options.claimChanged(shard);
        },
      ),
    hint: 3,
    plan: only({ partition: 1, pause: 1 }),
  },
  'a gap in what comes over a link is not noticed': {
    plant: () =>
      replace(
        Channel,
        'hear',
        (
          self: { received: number },
          original,
          [head, message]: [{ frame: number; kind: number }, Buffer],
        ) => {
          if (head.frame > self.received + 1) self.received = head.frame - 1;
          original(head, message);
        },
      ),
    hint: 4,
  },
  'a settlement is not sent again after its link broke': {
    plant: () => {
      const sent = new WeakSet();
      return replace(Relay, 'send', (_, original, [call, settling]: [number, { sent: unknown }]) => {
        if (sent.has(settling)) return;
        original(call, settling);
        if (settling.sent) sent.add(settling);
      });
    },
    hint: 4,
  },
  'the ack comes before that of the log': {
    plant: () =>
      replace(
        Ingress,
        'append',
        (
          _,
          original,
          [shard, pending, sealed, id, since, attempt]: [
            unknown,
            unknown,
            { shares: { ticket: Ticket; indexes: number[] }[] },
            unknown,
            unknown,
            number,
          ],
        ) => {
          const { shares } = sealed;
          if (attempt === 0) for (const { ticket, indexes } of shares) ticket.done(indexes.length);
          original(shard, pending, { ...sealed, shares: [] }, id, since, attempt);
        },
      ),
    hint: 4,
  },
  'a result is in the log before the end of its task': {
    plant: () =>
      replace(Endings, 'finish', (self: { options: { journal: Journal } }, original, args) => {
        const { journal } = self.options;
        const { finish } = OwnerRecordWriter.prototype;
        const held: (() => void)[] = [];
        OwnerRecordWriter.prototype.finish = function (...end) {
          held.push(() => {
            journal.record.finish(...end);
            journal.touch();
          });
        };
        original(...args);
        OwnerRecordWriter.prototype.finish = finish;
        journal.after(() => held.forEach((end) => end()));
      }),
    hint: 7,
  },
  'the log is cut past a live task': {
    plant: () => replace(Batches, 'oldest', () => NONE),
    hint: 1,
  },
  'the log is cut past a result that was not forwarded': {
    plant: () => replace(Outbox, 'oldest', () => Infinity),
    hint: 18,
  },
  'who has slept delivers by what it knew before': {
    plant: () => replace(Standing, 'sure', () => true),
    hint: 2,
    plan: only({ pause: 1 }),
  },
};
