import { expect, test } from '@jest/globals';
import type { Posted } from '../../../src/broker/progress-post.ts';
import { ProgressPost } from '../../../src/broker/progress-post.ts';
import { Router } from '../../../src/broker/router.ts';
import { VirtualClock } from '../../support/clock.ts';
import { Neighbourhood } from '../../support/peers.ts';

class Desk {
  readonly taken: string[] = [];
  listening = true;
  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  take({ audience, origin, progress }: Posted): void {
    this.taken.push(`${audience} ${origin} ${progress.taskId} ${progress.percent}`);
  }
}

function three() {
  const clock = new VirtualClock();
  const hood = new Neighbourhood(clock);
  const desks = ['a', 'b', 'c'].map((id) => new Desk(id));
  const posts = desks.map((desk) => {
    const peers = hood.add(desk.id);
    const shards = { count: 1, owner: () => undefined };
    return new ProgressPost(new Router({ cluster: peers.cluster, peers, clock, shards }), desk);
  });
  const [, b, c] = desks as [Desk, Desk, Desk];
  const post = (taskId: string, percent: number, everywhere = false): void =>
    posts[0]!.post(
      { origin: '', audience: 'requester', progress: { to: 'm', taskId, percent } },
      { everywhere, broker: undefined },
    );
  return { clock, hood, posts, b, c, post };
}

test('while one batch is under way the next one gathers, and of each task has only the newest', () => {
  const { clock, hood, b, post } = three();
  hood.neighbours.get('c')!.live = false;
  post('x', 1);
  clock.tick();
  for (let percent = 2; percent < 50; percent++) {
    post('x', percent);
    post('y', percent);
  }
  clock.run();
  expect(b.taken).toEqual(['requester  x 1', 'requester  x 49', 'requester  y 49']);
  expect(hood.neighbours.get('b')!.heard).toHaveLength(2);
});

test('a broker where nobody listens is left alone for a while, or until somebody does', () => {
  const { clock, posts, b, c, post } = three();
  b.listening = false;
  c.listening = false;
  post('x', 1);
  clock.advance(10);
  post('x', 2);
  clock.advance(10);
  expect([b.taken.length, c.taken.length]).toEqual([1, 1]);
  post('x', 3, true);
  clock.advance(10);
  expect([b.taken.length, c.taken.length]).toEqual([2, 2]);
  c.listening = true;
  posts[2]!.announce();
  clock.advance(10);
  post('x', 4);
  clock.advance(10);
  expect([b.taken.length, c.taken.length]).toEqual([2, 3]);
  clock.advance(1000);
  post('x', 5);
  clock.advance(10);
  expect([b.taken.length, c.taken.length]).toEqual([3, 4]);
});
