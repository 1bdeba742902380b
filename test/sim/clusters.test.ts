import { ClusterWorld } from '../support/sim/cluster-world.ts';
import { simulate } from '../support/sim/seeds.ts';

simulate({
  who: 'brokers that share a log, and their clients, in trouble of every kind',
  file: 'clusters',
  usual: 100,
  live: (seed, trace) => new ClusterWorld(seed, trace && { trace }).run(),
});
