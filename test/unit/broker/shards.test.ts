import { expect, test } from '@jest/globals';
import type { Owner } from '../../../src/broker/owner.ts';
import { Shards } from '../../../src/broker/shards.ts';
import type { Claim, Cluster } from '../../../src/cluster/cluster.ts';
import type { HubError } from '../../../src/std/errors.ts';
import { VirtualClock } from '../../support/clock.ts';

test('an owner ends as soon as another broker is known to serve its shard in a later epoch, not in a former one', () => {
  let claim: Claim | undefined;
  const stops: (string | undefined)[] = [];
  const owner = {
    shard: 0,
    serving: true,
    begun: { revision: 3, counter: 7 },
    follow: (caughtUp: () => void) => caughtUp(),
    begin: (_revision: number, serving: () => void) => serving(),
    stop: (error?: HubError) => stops.push(error?.code),
  };
  const cluster = {
    self: 'a',
    assigned: () => ({ broker: 'a', revision: 3 }),
    claim: () => claim,
    acquire: (_shard: number, granted: (revision: number) => void) => {
      granted(3);
      return { cancel() {} };
    },
    serve() {},
  };
  const shards = new Shards({
    cluster: cluster as unknown as Cluster,
    clock: new VirtualClock(),
    count: () => 1,
    make: () => owner as unknown as Owner,
    served() {},
    left() {},
    failed() {},
  });
  shards.review();
  for (const [revision, counter] of [
    [2, 9],
    [3, 7],
  ] as const) {
    claim = { broker: 'b', epoch: { revision, counter } };
    shards.outranked(0);
  }
  expect(stops).toEqual([]);
  claim = { broker: 'b', epoch: { revision: 3, counter: 8 } };
  shards.outranked(0);
  expect(stops).toEqual(['aborted']);
});
