import { expect, test } from '@jest/globals';
import { KnownTasks } from '../../../src/broker/known-tasks.ts';
import { Router } from '../../../src/broker/router.ts';
import { VirtualClock } from '../../support/clock.ts';
import { Neighbourhood } from '../../support/peers.ts';

function two() {
  const clock = new VirtualClock();
  const hood = new Neighbourhood(clock);
  const [here] = ['a', 'b'].map((id) => {
    const peers = hood.add(id);
    const owner = (shard: number): { knows(hash: Uint32Array): boolean } | undefined =>
      peers.owner(shard) && { knows: ([first]) => first === 7 };
    const shards = { count: 2, owner: (shard: number) => peers.owner(shard) };
    return new KnownTasks(new Router({ cluster: peers.cluster, peers, clock, shards }), owner);
  });
  hood.serve(0, 'a');
  hood.serve(1, 'b');
  const answers: (readonly boolean[] | string)[] = [];
  const ask = (shard: number, ...firsts: number[]): void =>
    here!.ask(shard, Uint32Array.from(firsts.flatMap((first) => [first, 0, 0, 0])), (error, known) =>
      answers.push(error ? error.code : known),
    );
  return { clock, hood, ask, answers };
}

test('an owner here answers at once', () => {
  const { ask, answers } = two();
  ask(0, 7, 8);
  expect(answers).toEqual([[true, false]]);
});

test('an owner elsewhere is asked once for all that one turn wants to know', () => {
  const { ask, answers, clock, hood } = two();
  ask(1, 7);
  ask(1, 8, 7);
  ask(1, 9);
  expect(answers).toEqual([]);
  clock.run();
  expect(answers).toEqual([[true], [false, true], [false]]);
  expect(hood.neighbours.get('b')!.heard).toEqual(['KnownTasks']);
});

test('nothing is said to be unknown while the owner is silent', () => {
  const { ask, answers, clock, hood } = two();
  hood.release(1);
  ask(1, 7);
  clock.run();
  expect(answers).toEqual(['unavailable']);
});
