import { ClusterWorld } from '../support/sim/cluster-world.ts';
import { simulate } from '../support/sim/seeds.ts';

simulate({
  who: 'brokers whose logs have filled up while nobody worked, and which settle all that is in them once somebody does,',
  file: 'full-logs',
  usual: 8,
  live: (seed, trace) => new ClusterWorld(seed, { ...(trace && { trace }), heaps: true }).run(),
});
