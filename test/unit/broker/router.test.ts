import { expect, test } from '@jest/globals';
import type { Codec, Done, Question } from '../../../src/broker/question.ts';
import type { ShardAnswerer, ShardQuestion } from '../../../src/broker/router.ts';
import { Router } from '../../../src/broker/router.ts';
import { HubError } from '../../../src/std/errors.ts';
import { VirtualClock } from '../../support/clock.ts';
import { Neighbourhood } from '../../support/peers.ts';

const SHARDS = 6;

const json: Codec<unknown> = {
  write: (value) => Buffer.from(JSON.stringify(value)),
  read: (bytes) => JSON.parse(bytes.toString()) as unknown,
};

const WHO: Question<string, string> = {
  name: 'Who',
  request: json as Codec<string>,
  response: json as Codec<string>,
};

/** Three brokers, two shards each. */
function three(answerer?: (id: string) => ShardAnswerer<string, string>, repeatable = true) {
  const clock = new VirtualClock();
  const hood = new Neighbourhood(clock);
  const questions: ShardQuestion<string, string>[] = [];
  const routers: Router[] = [];
  const ids = ['a', 'b', 'c'];
  for (const id of ids) {
    const peers = hood.add(id);
    const shards = { count: SHARDS, owner: (shard: number) => peers.owner(shard) };
    const router = new Router({ cluster: peers.cluster, peers, clock, shards });
    routers.push(router);
    const plain: ShardAnswerer<string, string> = (request, some, done) =>
      done(undefined, `${id} ${request} ${some.join()}`);
    questions.push(router.aboutShards(WHO, repeatable, answerer?.(id) ?? plain));
  }
  for (let shard = 0; shard < SHARDS; shard++) hood.serve(shard, ids[Math.floor(shard / 2)]!);
  return { clock, hood, questions, routers, first: questions[0]! };
}

/** What a call ended with. */
class Ending<T> {
  error: HubError | undefined;
  value: T | undefined;
  times = 0;
  readonly done: Done<T> = (error, value) => {
    this.times++;
    this.error = error;
    this.value = value;
  };
}

test('a question goes to the broker that serves the shard, or is answered at once here', () => {
  const { clock, questions, first } = three();
  const near = new Ending<string>();
  first.ofShard(1, 'x', near.done);
  expect(near.value).toBe('a x 1');
  expect(clock.pending).toBe(0);
  for (const question of questions) {
    const far = new Ending<string>();
    question.ofShard(4, 'y', far.done);
    clock.run(() => far.times > 0);
    expect(far.value).toBe('c y 4');
  }
});

test('all shards are asked for, each once', () => {
  const { clock, first, hood } = three();
  const all = new Ending<readonly string[]>();
  first.ofAll('x', all.done);
  clock.run(() => all.times > 0);
  expect([...all.value!].sort()).toEqual(['a x 0,1', 'b x 2,3', 'c x 4,5']);
  expect(['b', 'c'].map((id) => hood.neighbours.get(id)!.heard)).toEqual([['Who'], ['Who']]);
  clock.run();
  expect(all.times).toBe(1);
});

test('an answer that is enough is not kept waiting', () => {
  const { clock, first, hood } = three();
  hood.neighbours.get('c')!.mute = true;
  const all = new Ending<readonly string[]>();
  first.ofAll('x', all.done, (response) => response.startsWith('b'));
  clock.advance(1);
  expect(all.value).toContain('b x 2,3');
  clock.run();
  expect(all.times).toBe(1);
});

test('while nobody serves a shard it waits, and goes to whoever takes it', () => {
  const { clock, first, hood } = three();
  hood.release(3);
  const all = new Ending<readonly string[]>();
  first.ofAll('x', all.done);
  clock.advance(1500);
  expect(all.times).toBe(0);
  hood.serve(3, 'c');
  clock.advance(100);
  expect([...all.value!].sort()).toEqual(['a x 0,1', 'b x 2', 'c x 3', 'c x 4,5']);
});

test('a shard that stays without a broker makes the call unavailable, never incomplete', () => {
  const { clock, first, hood } = three();
  hood.release(3);
  const all = new Ending<readonly string[]>();
  first.ofAll('x', all.done);
  clock.run(() => all.times > 0);
  expect(all.error).toMatchObject({ code: 'unavailable', retryAfterMs: 1000 });
  expect(all.error?.message).toContain('shard 3');
});

test('a broker that only thinks that it is asked rightly sends the question on its way again', () => {
  const { clock, first, hood } = three();
  const one = new Ending<string>();
  first.ofShard(4, 'x', one.done);
  // It moves while the question is under way.
  hood.serve(4, 'b');
  clock.advance(100);
  expect(one.value).toBe('b x 4');
});

test('a broker that dies while it is asked is not waited for: the next one is asked', () => {
  const { clock, first, hood } = three();
  const one = new Ending<string>();
  hood.neighbours.get('c')!.mute = true;
  first.ofShard(4, 'x', one.done);
  clock.advance(1000);
  expect(one.times).toBe(0);
  hood.neighbours.get('c')!.live = false;
  hood.release(4);
  clock.advance(1000);
  hood.serve(4, 'b');
  clock.advance(100);
  expect(one.value).toBe('b x 4');
});

test('what must not be done twice is not asked again when it is open whether it was done', () => {
  const { clock, first, hood } = three(undefined, false);
  const one = new Ending<string>();
  hood.neighbours.get('c')!.mute = true;
  first.ofShard(4, 'x', one.done);
  clock.advance(10);
  hood.neighbours.get('c')!.live = false;
  hood.serve(4, 'b');
  clock.advance(1000);
  expect(one.error?.code).toBe('unavailable');
  expect(hood.neighbours.get('b')!.heard).toEqual([]);
});

test('a live broker that is silent makes the call unavailable', () => {
  const { clock, first, hood } = three();
  hood.neighbours.get('b')!.mute = true;
  const all = new Ending<readonly string[]>();
  first.ofAll('x', all.done);
  clock.run(() => all.times > 0);
  expect(all.error?.code).toBe('unavailable');
});

test('errors of the broker that answers are those of the call', () => {
  const { clock, first } = three(() => () => {
    throw new HubError('invalid', 'no such thing', { field: 'thing' });
  });
  for (const shard of [0, 5]) {
    const one = new Ending<string>();
    first.ofShard(shard, 'x', one.done);
    clock.run(() => one.times > 0);
    expect(one.error).toMatchObject({ code: 'invalid', field: 'thing' });
  }
});

test.each([
  ['is asked again', true],
  ['fails, for it may have been done', false],
])('a shard that is taken over before it answers %s', (_what, repeatable) => {
  const held: Done<string>[] = [];
  const { clock, questions, hood } = three(
    (id) => (request, some, done) => {
      if (id === 'c') held.push(done);
      else done(undefined, `${id} ${request} ${some.join()}`);
    },
    repeatable,
  );
  for (const question of questions) {
    hood.serve(4, 'c');
    const one = new Ending<string>();
    question.ofShard(4, 'x', one.done);
    clock.advance(100);
    expect(one.times).toBe(0);
    hood.serve(4, 'b');
    clock.advance(200);
    if (repeatable) expect(one.value).toBe('b x 4');
    else expect(one.error?.code).toBe('unavailable');
    for (const late of held.splice(0)) late(undefined, 'late');
    clock.run();
    expect(one.times).toBe(1);
  }
});

test('every live broker answers for itself, and who is silent is said to be', () => {
  const clock = new VirtualClock();
  const hood = new Neighbourhood(clock);
  const questions = ['a', 'b', 'c', 'd'].map((id) => {
    const peers = hood.add(id);
    const shards = { count: SHARDS, owner: () => undefined };
    const router = new Router({ cluster: peers.cluster, peers, clock, shards });
    return router.toBrokers(WHO, (request, done) => done(undefined, `${id} ${request}`));
  });
  hood.neighbours.get('c')!.mute = true;
  let answers: readonly unknown[] | undefined;
  questions[0]!.ofEach('x', 500, (all) => {
    answers = all.map(({ broker, response, error }) => [broker, response ?? error?.code]);
  });
  // It dies meanwhile, and is not missed.
  hood.neighbours.get('d')!.live = false;
  clock.run(() => answers !== undefined);
  expect(answers).toEqual([
    ['a', 'a x'],
    ['b', 'b x'],
    ['c', 'unavailable'],
  ]);
});
