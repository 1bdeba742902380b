/**
 * Proves the proof: every bug planted here must be found by the simulation, within so many seeds.
 *
 * A bug is planted by replacing a method of a class for as long as the worlds run; nothing in `src` knows of it.
 */
import { describe, expect, test } from '@jest/globals';
import { Applier } from '../../src/broker/apply.ts';
import type { Checkpoint } from '../../src/broker/checkpoint.ts';
import { Consumer } from '../../src/broker/consumer.ts';
import { Endings } from '../../src/broker/endings.ts';
import { Forwarder } from '../../src/broker/forwarder.ts';
import { Holders } from '../../src/broker/holders.ts';
import type { Waiter } from '../../src/broker/journal.ts';
import { Journal } from '../../src/broker/journal.ts';
import { Owner } from '../../src/broker/owner.ts';
import { Batches } from '../../src/core/batches.ts';
import { Dedup } from '../../src/core/dedup.ts';
import { Outbox } from '../../src/core/outbox.ts';
import { ReadyQueues } from '../../src/core/ready.ts';
import { Outcome, ShardState } from '../../src/core/shard-state.ts';
import { Flag, NONE } from '../../src/core/task-table.ts';
import { Session } from '../../src/edge/session.ts';
import { FileLog } from '../../src/log/file.ts';
import type { Append, LogReader } from '../../src/log/log.ts';
import { HubError } from '../../src/std/errors.ts';
import { Entry } from '../../src/wire/entry.ts';
import type { CopiedTask } from '../../src/wire/owner-record.ts';
import { OwnerRecordWriter } from '../../src/wire/owner-record.ts';
import { replace } from '../support/sim/planted.ts';
import { TappedLog } from '../support/sim/shadows.ts';
import { World } from '../support/sim/world.ts';

/** Seeds within which every bug must be found. */
const SEEDS = 300;
const TIMEOUT_MS = 300_000;

type Method = (...args: never[]) => unknown;

/** What is read or changed of the insides of a class. */
interface Insides {
  incarnation: number;
  issued: number[];
  readonly options: { readonly journal: Journal; readonly state: ShardState };
  readonly state: ShardState;
}

const BUGS: Record<string, () => () => void> = {
  'the ack comes before the flush': () => {
    const { recover } = FileLog;
    FileLog.recover = (options, done) => {
      recover({ ...options, sync: 'none' }, (error, log) => {
        if (log && options.sync === 'always') Object.defineProperty(log, 'durability', { value: 'synced' });
        done(error, log);
      });
    };
    return () => {
      FileLog.recover = recover;
    };
  },
  'a settlement is acknowledged before the log has it': () =>
    replace(Journal, 'after', (_, __, [waiter]: [Waiter]) => waiter()),
  'done is not logged': () => replace(OwnerRecordWriter, 'finish', () => undefined),
  'leases are not released when their session dies': () => replace(Owner, 'sessionGone', () => undefined),
  'a stale incarnation is accepted': () =>
    replace(Session, 'connect', (self: Insides, original, args) => {
      original(...args);
      self.incarnation = -1;
    }),
  'the log is cut past a result that was not forwarded': () => replace(Outbox, 'oldest', () => Infinity),
  'the log is cut past a live task': () => replace(Batches, 'oldest', () => NONE),
  'a duplicate is not dropped in the log': () => replace(Owner, 'duplicate', () => undefined),
  'a lease that has ended can be completed again': () =>
    replace(Owner, 'open', (self: Insides, _, [lease]: [{ order: number; tag: number; slot: number }]) => {
      const slot = self.state.find(lease.order, lease.tag, lease.slot);
      if (slot === NONE) throw new HubError('precondition', 'it has ended');
      return slot;
    }),
  'a result is posted in another record than its decision': () =>
    replace(Endings, 'answer', (self: Insides, original, args) => {
      const { journal } = self.options;
      journal.after(() => {
        original(...args);
        journal.touch();
      });
    }),
  'the ring of known ids is not in the checkpoint': () =>
    replace(Dedup, 'exportRing', () => new Uint8Array(0)),
  'the back-off is ignored': () =>
    replace(ShardState, 'release', (_, original, [slot, deliveries, , counts]: unknown[]) =>
      original(slot, deliveries, 0, counts),
    ),
  'the deadline is ignored': () =>
    replace(Entry, 'read', (self: Entry, original, args) => {
      original(...args);
      self.flags &= ~Flag.deadline;
    }),
  'a retry counts twice': () =>
    replace(ShardState, 'release', (self: ShardState, original, [slot, ...rest]: [number, ...unknown[]]) => {
      original(slot, ...rest);
      if (rest[2] === true) self.tasks.attempts[slot]!++;
    }),
  'attempts are never used up': () =>
    replace(Endings, 'giveUp', (self: Endings, original, args: [number, string, string, number]) => {
      if (args[1] === 'attempts') self.giveBack(args[0], args[3], 0, true);
      else original(...args);
    }),
  'a number of the outbox is used again': () =>
    replace(Endings, 'restart', (self: Insides, original) => {
      original();
      const { outbox } = self.options.state;
      self.issued = Array.from({ length: outbox.shards }, (_, shard) =>
        Math.max(0, outbox.issued(shard) - 1),
      );
    }),
  'a parcel counts as forwarded before it is': () =>
    replace(Forwarder, 'pump', (self: { options: { forward: Method } }, original, args) => {
      const { forward } = self.options;
      const hasty = (...[destination, source, parcels, done]: unknown[]): void => {
        forward(...([destination, source, parcels, () => {}] as never[]));
        (done as () => void)();
      };
      Object.assign(self, { options: { ...self.options, forward: hasty } });
      original(...args);
      Object.assign(self, { options: { ...self.options, forward } });
    }),
  'what is copied forward loses its attempts': () =>
    replace(OwnerRecordWriter, 'copy', (_, original, [task, entry]: [CopiedTask, Uint8Array]) =>
      original({ ...task, attempts: 0 }, entry),
    ),
  'a publish is refused, and kept': () => {
    let appends = 0;
    return replace(TappedLog, 'append', (_, original, [shard, append, done]: [number, Append, Method]) => {
      const lies = append.subject === 'tasks' && ++appends % 20 === 0;
      const lie = (): unknown => done(...([new HubError('exhausted', 'it is full'), 0] as never[]));
      original(shard, append, lies ? lie : done);
    });
  },
  'a replay skips the last record': () =>
    replace(
      TappedLog,
      'read',
      (self: TappedLog, original, [shard, from, reader]: [number, number, LogReader]) => {
        const { last } = self.extent(shard);
        return original(shard, from, {
          ...reader,
          record: (sequence: number, subject: 'tasks' | 'owner', bytes: Uint8Array) => {
            if (sequence !== last) reader.record(sequence, subject, bytes);
          },
        });
      },
    ),
  'credit is not looked at': () => replace(Consumer, 'window', () => 1000),
  'a holder is not told of a cancellation': () => replace(Holders, 'abort', () => undefined),
  'the second task of a mailbox goes first': () =>
    replace(
      ReadyQueues,
      'peek',
      (self: { readonly state: ShardState; has(slot: number): boolean }, original, args) => {
        const slot = original(...args) as number;
        const next = slot === NONE ? NONE : self.state.tasks.next[slot]!;
        return next !== NONE && self.has(next) ? next : slot;
      },
    ),
  'a list of leases counts for those that were given after it was asked for': () =>
    replace(Owner, 'reconcile', (_, original, [sink, leases]: [unknown, unknown]) =>
      original(sink, leases, Infinity),
    ),
  'a broadcast misses a mailbox': () =>
    replace(OwnerRecordWriter, 'fanout', (_, original, [mailboxes, ...rest]: [string[], ...unknown[]]) =>
      original(mailboxes.slice(1), ...rest),
    ),
  'dead letters are revived as they died': () =>
    replace(Applier, 'revive', (self: Insides, original, [order, tag, hint]: number[]) => {
      const slot = self.state.find(order!, tag!, hint);
      const attempts = slot === NONE ? 0 : self.state.tasks.attempts[slot]!;
      original(order, tag, hint);
      if (slot !== NONE) self.state.tasks.attempts[slot] = attempts;
    }),
  'a broadcast that nobody has fanned out is forgotten after a restart': () =>
    replace(Owner, 'broadcastLater', (self: Owner, _, [slot]: [number]) =>
      self.endings.finishSilently(slot, Outcome.delivered),
    ),
  'how tasks ended is forgotten when the log is cut': () =>
    replace(Dedup, 'importRing', (_, original, [ring]: [Uint8Array]) =>
      original(Uint8Array.from(ring).fill(0, (ring.length / 17) * 16)),
    ),
  'the log is cut past what lived when the checkpoint was made': () =>
    replace(ShardState, 'floor', (self: ShardState) => self.sequence + 1),
  'what came before a checkpoint is judged as if it came behind it': () =>
    replace(Applier, 'checkpointIn', (_, original, args) => {
      const checkpoint = original(...args) as Checkpoint | undefined;
      return checkpoint && { ...checkpoint, sequence: Infinity };
    }),
  'leases are never written': () => replace(Journal, 'lease', () => undefined),
};

/** The first seed that finds something wrong, and what. */
function firstFound(): { seed: number; found: string } | undefined {
  for (let seed = 1; seed <= SEEDS; seed++) {
    try {
      new World(seed).run();
    } catch (error) {
      return { seed, found: (error as Error).message };
    }
  }
  return undefined;
}

const run = process.env['SEED'] === undefined ? test : test.skip;

describe('the simulation finds that', () => {
  run.each(Object.entries(BUGS))(
    '%s',
    (_, plant) => {
      const remove = plant();
      try {
        expect(firstFound()).toBeDefined();
      } finally {
        remove();
      }
    },
    TIMEOUT_MS,
  );
});
