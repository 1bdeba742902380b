import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { connect, RetryLater } from '../../src/client/index.ts';
import { CliProcess, ServeProcess } from '../support/serve.ts';
import type { Said } from '../support/terminal.ts';
import { TestTerminal } from '../support/terminal.ts';
import { until } from '../support/inbox.ts';

const dir = mkdtempSync(join(tmpdir(), 'agenthub-cli-'));
const IMPATIENT = ['--delivery-backoff-initial-ms', '1ms', '--session-grace-ms', '200ms'];

/** A task, as far as a test looks into it. */
interface Named {
  readonly id: string;
  readonly state: string;
}

/** What a benchmark says, as far as a test computes with it. */
interface Report {
  readonly ledger: { readonly accepted: number };
  readonly latencyMs: Readonly<Record<string, Readonly<Record<'p50' | 'p99' | 'max' | 'count', number>>>>;
}

let serve: ServeProcess;

beforeAll(async () => {
  serve = await ServeProcess.start(join(dir, 'main'), IMPATIENT);
});

afterAll(async () => {
  await serve.end('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
});

/** Runs a command against the broker. */
function hub(...args: readonly string[]): Promise<Said> {
  return new TestTerminal().run(...args, '--broker', serve.grpc);
}

/** Runs a command against the broker, and reads the one JSON document that it writes. */
async function json<T = object>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await hub(...args, '-o', 'json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

function lines(text: string): { id?: string }[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
}

describe('task', () => {
  test('publish says what was accepted, and how durably', async () => {
    expect(await json('task', 'publish', 'alice', 'hello', '--id', 'a1', '--type', 'greet')).toEqual({
      id: 'a1',
      mailbox: 'alice',
      durability: 'synced',
    });
    const { stdout } = await hub('task', 'publish', 'alice', 'again');
    expect(stdout).toMatch(/^id +\S+\nmailbox +alice\ndurability +synced\n$/);
  });

  test('get shows all that was said when it was published', async () => {
    const flags = ['--priority', 'high', '--deadline', '1h', '--delay', '30m', '--max-attempts', '3'];
    const more = ['--backoff', '2s', '--max-run', '1m', '--requester', 'bob', '--context', 'c1'];
    const body = ['--header', 'tenant=x', '--header', 'trace=1=2', '--content-type', 'application/json'];
    await json('task', 'publish', 'type:plan', '{"a":1}', '--id', 'g1', ...flags, ...more, ...body);
    expect(await json('task', 'get', 'g1', '--mailbox', 'type:plan')).toMatchObject({
      id: 'g1',
      mailbox: 'type:plan',
      state: 'delayed',
      type: 'plan',
      requester: 'bob',
      priority: 'high',
      maxAttempts: 3,
      headers: { tenant: 'x', trace: '1=2' },
      contextId: 'c1',
      contentType: 'application/json',
      payload: '{"a":1}',
    });
    const { stdout } = await hub('task', 'get', 'g1');
    expect(stdout).toMatch(/state +delayed/);
    expect(stdout).toMatch(/headers +tenant=x trace=1=2/);
  });

  describe('why says what a task waits for, and what to do', () => {
    async function why(id: string, ...more: readonly string[]): Promise<object> {
      const { why, wait, state } = await json<{ why: string; wait?: object; state: string }>(
        'task',
        'why',
        id,
        ...more,
      );
      return { why, state, ...wait };
    }

    test('a worker', async () => {
      await json('task', 'publish', 'unserved', 'x', '--id', 'w0');
      await json('task', 'publish', 'unserved', 'x', '--id', 'w1');
      expect(await why('w1')).toMatchObject({
        state: 'queued',
        cause: 'no-worker',
        ahead: 1,
        workers: 0,
        why: expect.stringContaining('nobody works on unserved'),
      });
      expect((await hub('task', 'why', 'w1')).stdout).toMatch(/shard +\d+ at \S+-/);
    });

    test('its time', async () => {
      await json('task', 'publish', 'unserved', 'x', '--id', 'w2', '--delay', '1h');
      expect(await why('w2')).toMatchObject({ state: 'delayed', cause: 'delay', until: expect.any(String) });
    });

    test('a worker of its type, room, and the end of its work', async () => {
      const worker = await connect({ address: serve.grpc });
      const { promise, resolve } = Promise.withResolvers<void>();
      try {
        const asked = await worker.work('busy', () => promise, { types: ['file'], window: 1, agent: 'ann' });
        for (const [id, type] of Object.entries({ w3: 'file', w4: 'file', w5: 'print' }))
          await json('task', 'publish', 'busy', 'x', '--id', id, '--type', type);
        expect(await why('w3')).toMatchObject({
          state: 'running',
          cause: 'work',
          holderGone: false,
          why: expect.stringMatching(/^ann has it since \d+m?s \(session \w+, attempt 1 of 5\)$/),
        });
        expect(await why('w4')).toMatchObject({
          cause: 'credit',
          ahead: 0,
          workers: 1,
          willing: 1,
          credit: 0,
        });
        expect(await why('w5')).toMatchObject({ cause: 'type', workers: 1, willing: 0 });
        resolve();
        await until(async () => JSON.stringify(await why('w4', '--mailbox', 'busy')).includes('succeeded'));
        expect(await why('w4', '--mailbox', 'busy')).toMatchObject({
          why: 'it has ended: a worker completed it',
        });
        await asked.close();
      } finally {
        await worker.close();
      }
    });

    test('its next attempt, or somebody who looks at why it is dead', async () => {
      const worker = await connect({ address: serve.grpc });
      try {
        await worker.work('fails', () => {
          throw new RetryLater(3_600_000, 'not now');
        });
        await json('task', 'publish', 'fails', 'x', '--id', 'w6');
        await json('task', 'publish', 'fails', 'x', '--id', 'w7', '--max-attempts', '1');
        await until(async () => JSON.stringify(await why('w6')).includes('backoff'));
        expect(await why('w6')).toMatchObject({
          why: expect.stringMatching(/^attempt 1 of 5 has failed; the next one is in (59m|1h)/),
        });
        await until(async () => JSON.stringify(await why('w7')).includes('dead'));
        expect(await why('w7')).toMatchObject({
          why: expect.stringMatching(
            /gave up on it .* ago, .*: not now; agenthub dead replay fails w7 tries again/,
          ),
        });
      } finally {
        await worker.close();
      }
    });

    test('nothing, if there is no such task', async () => {
      expect((await hub('task', 'why', 'w9')).code).toBe(4);
    });
  });

  test('get of bytes that are no text gives them in base64', async () => {
    const file = join(dir, 'bytes');
    writeFileSync(file, Buffer.from([0xff, 0x00, 0xfe]));
    await json('task', 'publish', 'alice', '--file', file, '--id', 'bytes');
    expect(await json('task', 'get', 'bytes')).toMatchObject({ payloadBase64: '/wD+' });
  });

  test('publish reads standard input: as one task, or a task a line', async () => {
    const one = await new TestTerminal({}, 'from\na pipe').run(
      'task',
      'publish',
      'pipe',
      '-',
      '--id',
      'p',
      '--broker',
      serve.grpc,
    );
    expect(one.code).toBe(0);
    expect(await json('task', 'get', 'p')).toMatchObject({ payload: 'from\na pipe' });
    const input = Array.from({ length: 2500 }, (_, index) => `line ${index}\n`).join('');
    const many = await new TestTerminal({}, input).run(
      'task',
      'publish',
      'lined',
      '--lines',
      '--broker',
      serve.grpc,
      '-o',
      'json',
    );
    expect(JSON.parse(many.stdout)).toEqual({ accepted: 2500 });
    const listed = await json<object[]>('task', 'list', 'lined', '--limit', '3000');
    expect(listed).toHaveLength(2500);
  });

  test('list filters and limits', async () => {
    for (const id of ['l1', 'l2', 'l3'])
      await json('task', 'publish', 'list', 'x', '--id', id, '--type', `kind-${id}`);
    expect((await json<Named[]>('task', 'list', 'list')).map(({ id }) => id)).toEqual(['l1', 'l2', 'l3']);
    expect(await json('task', 'list', 'list', '--limit', '2')).toHaveLength(2);
    expect(await json('task', 'list', 'list', '--type', 'kind-l2')).toMatchObject([{ id: 'l2' }]);
    expect(await json('task', 'list', 'list', '--state', 'running', 'dead')).toEqual([]);
    expect(await json('task', 'list', '--requester', 'nobody')).toEqual([]);
    const { stdout } = await hub('task', 'list', 'list');
    expect(stdout).toMatch(/^ID +MAILBOX +STATE/);
    expect((await hub('task', 'list', 'empty')).stdout).toBe('No tasks.\n');
  });

  test('cancel ends a task, once', async () => {
    await json('task', 'publish', 'cancel', 'x', '--id', 'c1');
    expect(await json('task', 'cancel', 'c1', '--mailbox', 'cancel')).toEqual({
      id: 'c1',
      outcome: 'cancelled',
    });
    expect((await hub('task', 'cancel', 'c1', '--mailbox', 'cancel')).code).toBe(5);
    expect((await hub('task', 'cancel', 'nothing')).code).toBe(4);
    expect((await hub('task', 'get', 'nothing')).code).toBe(4);
  });

  test('result takes what waits for an agent, or one of them, and the others stay', async () => {
    for (const id of ['r1', 'r2', 'r3'])
      await json('task', 'publish', 'results', id, '--id', id, '--requester', 'carol');
    for (const id of ['r1', 'r2', 'r3'])
      await json('task', 'cancel', id, '--mailbox', 'results', '--reason', 'no need');
    const one = await hub('task', 'result', 'carol', 'r2', '--wait', '20s', '-o', 'json');
    expect(lines(one.stdout)).toMatchObject([
      { id: 'r2', outcome: 'cancelled', error: 'no need', requester: 'carol' },
    ]);
    const rest = await hub('task', 'result', 'carol', '--limit', '2', '--wait', '20s', '-o', 'json');
    expect(lines(rest.stdout).map(({ id }) => id)).toEqual(['r1', 'r3']);
    expect((await hub('task', 'result', 'carol', '--wait', '100ms')).stdout).toBe(
      'No results wait for carol.\n',
    );
    expect((await hub('task', 'result', 'carol', 'r1', '--wait', '100ms')).code).toBe(4);
  });

  test('result follows what comes until it is interrupted', async () => {
    const terminal = new TestTerminal();
    const followed = terminal.run('task', 'result', 'dave', '--follow', '-o', 'json', '--broker', serve.grpc);
    for (const id of ['f1', 'f2']) {
      await json('task', 'publish', 'follow', 'x', '--id', id, '--requester', 'dave');
      await json('task', 'cancel', id, '--mailbox', 'follow');
      await until(() => terminal.stdout.text.includes(id));
    }
    terminal.interrupt();
    const { code, stdout } = await followed;
    expect(code).toBe(0);
    expect(lines(stdout).map(({ id }) => id)).toEqual(['f1', 'f2']);
  });
});

describe('work', () => {
  test('runs the command for each task, and what it prints is the result', async () => {
    const terminal = new TestTerminal({ PATH: process.env['PATH'] ?? '' });
    const exec = 'printf "%s:%s:%s " "$TASK_ID" "$TASK_TYPE" "$TASK_ATTEMPT"; tr a-z A-Z';
    const worked = terminal.run(
      'work',
      'type:shout',
      '--exec',
      exec,
      '--limit',
      '2',
      '-o',
      'json',
      '--broker',
      serve.grpc,
    );
    expect(await json('task', 'publish', 'type:shout', 'you', '--id', 'w1', '--wait')).toMatchObject({
      id: 'w1',
      outcome: 'succeeded',
      executor: 'type:shout',
      payload: 'w1:shout:1 YOU',
    });
    const second = await hub('task', 'publish', 'type:shout', 'hello', '--id', 'w2', '--wait');
    expect(second).toEqual({ code: 0, stdout: 'w2:shout:1 HELLO', stderr: '' });
    const { code, stdout } = await worked;
    expect(code).toBe(0);
    expect(lines(stdout)).toMatchObject([
      { id: 'w1', outcome: 'done', attempt: 1 },
      { id: 'w2', outcome: 'done', attempt: 1 },
    ]);
  });

  test('a command that fails is tried again, one that ends with 65 is not, and the requester is told why', async () => {
    const terminal = new TestTerminal({ PATH: process.env['PATH'] ?? '' });
    const exec = 'echo "attempt $TASK_ATTEMPT" >&2; read kind; [ "$kind" = hopeless ] && exit 65; exit 1';
    const worked = terminal.run('work', 'breaker', '--exec', exec, '--broker', serve.grpc);
    const hopeless = await hub('task', 'publish', 'breaker', 'hopeless', '--wait');
    expect(hopeless.code).toBe(3);
    expect(hopeless.stderr).toContain('attempt 1');
    const stubborn = await hub('task', 'publish', 'breaker', 'x', '--max-attempts', '2', '--wait');
    expect(stubborn.code).toBe(3);
    expect(stubborn.stderr).toContain('attempt 2');
    terminal.interrupt();
    expect((await worked).code).toBe(0);
  });

  test('a cancelled task ends its command, and all that the command has started', async () => {
    const terminal = new TestTerminal({ PATH: process.env['PATH'] ?? '' });
    const worked = terminal.run(
      'work',
      'sleeper',
      '--exec',
      'sleep 600 & wait',
      '-o',
      'json',
      '--broker',
      serve.grpc,
    );
    await json('task', 'publish', 'sleeper', '', '--id', 'z1');
    await until(
      async () => (await json<Named>('task', 'get', 'z1', '--mailbox', 'sleeper')).state === 'running',
    );
    await json('task', 'cancel', 'z1', '--mailbox', 'sleeper');
    await until(() => terminal.stdout.text.includes('z1'));
    expect(lines(terminal.stdout.text)).toMatchObject([{ id: 'z1', outcome: 'failed' }]);
    terminal.interrupt();
    await worked;
  });

  test('--wait gives up after its timeout, and the task is cancelled', async () => {
    const { code, stderr } = await hub(
      'task',
      'publish',
      'nobody',
      'x',
      '--id',
      'n1',
      '--wait',
      '--timeout',
      '200ms',
    );
    expect(code).toBe(8);
    expect(stderr).toContain('no result within 200 ms');
    await until(
      async () => (await json<Named>('task', 'get', 'n1', '--mailbox', 'nobody')).state === 'cancelled',
    );
  });
});

describe('dead', () => {
  test('ls, show, replay and purge', async () => {
    const terminal = new TestTerminal({ PATH: process.env['PATH'] ?? '' });
    const worked = terminal.run(
      'work',
      'mortal',
      '--exec',
      'echo bad luck >&2; exit 65',
      '--limit',
      '3',
      '--broker',
      serve.grpc,
    );
    for (const id of ['d1', 'd2', 'd3']) await json('task', 'publish', 'mortal', 'x', '--id', id);
    await worked;
    await until(async () => (await json<object[]>('dead', 'ls', 'mortal')).length === 3);
    expect(await json('dead', 'ls')).toEqual(await json('task', 'list', '--state', 'dead'));
    const { stdout } = await hub('dead', 'ls', 'mortal');
    expect(stdout).toContain('bad luck');
    expect(await json('dead', 'show', 'mortal', 'd1')).toMatchObject({
      id: 'd1',
      state: 'dead',
      payload: 'x',
    });
    expect((await hub('dead', 'show', 'mortal', 'nothing')).code).toBe(4);

    expect(await json('dead', 'replay', 'mortal', 'd1')).toEqual({ mailbox: 'mortal', replayed: 1 });
    expect(await json('task', 'get', 'd1', '--mailbox', 'mortal')).toMatchObject({
      state: 'queued',
      attempts: 0,
    });
    expect(await json('dead', 'purge', 'mortal', 'd2')).toEqual({ mailbox: 'mortal', purged: 1 });
    expect(await json('dead', 'replay', 'mortal', '--all')).toEqual({ mailbox: 'mortal', replayed: 1 });
    expect((await hub('dead', 'ls', 'mortal')).stdout).toBe('No dead letters.\n');
    expect((await hub('dead', 'purge', 'mortal')).code).toBe(2);
    expect((await hub('dead', 'purge', 'mortal', 'd1', '--all')).code).toBe(2);
  });
});

describe('looking', () => {
  test('mailboxes, agents and shards are tables for people and arrays for programs', async () => {
    const client = await connect({ address: serve.grpc });
    await client.work('watched', () => undefined, { agent: 'watcher', types: ['a', 'b'], concurrency: 7 });
    await json('task', 'publish', 'waiting', 'x');
    expect(await json('mailboxes', 'waiting')).toMatchObject([
      { mailbox: 'waiting', queued: 1, running: 0, workers: 0 },
    ]);
    expect(await json('mailboxes', 'watched')).toMatchObject([
      { mailbox: 'watched', queued: 0, workers: 1, credit: 7 },
    ]);
    expect((await hub('mailboxes')).stdout).toMatch(/^MAILBOX +QUEUED/);
    expect(await json('mailboxes', '--limit', '1')).toHaveLength(1);
    expect(await json('agents', 'watch')).toMatchObject([
      {
        agent: 'watcher',
        mailbox: 'watched',
        listener: false,
        window: 7,
        types: ['a', 'b'],
        connected: true,
      },
    ]);
    expect((await hub('agents')).stdout).toMatch(/watcher +watched +worker/);
    const shards = await json<object[]>('shards');
    expect(shards).toHaveLength(16);
    expect(shards[3]).toMatchObject({ shard: 3, epoch: expect.any(Number), tasks: expect.any(Number) });
    expect((await hub('shards')).stdout.split('\n')).toHaveLength(18);
    await client.close();
  });

  test('cluster describes the brokers; drain empties the one that is asked, and can be taken back', async () => {
    const other = await ServeProcess.start(join(dir, 'drained'));
    try {
      const run = (...args: string[]): Promise<Said> =>
        new TestTerminal().run(...args, '--broker', other.grpc, '-o', 'json');
      const cluster = JSON.parse((await run('cluster')).stdout) as {
        broker: string;
        brokers: { id: string }[];
      };
      expect(cluster).toMatchObject({
        log: 'file',
        durability: 'synced',
        shards: 16,
        brokers: [{ pool: 'default', draining: false }],
      });
      expect(cluster.broker).toBe(cluster.brokers[0]?.id);
      expect(JSON.parse((await run('cluster', 'drain', '--status')).stdout)).toMatchObject({
        state: 'serving',
      });
      expect(JSON.parse((await run('cluster', 'drain')).stdout)).toMatchObject({ draining: true });
      expect((await run('task', 'publish', 'x', 'y')).code).toBe(7);
      expect(JSON.parse((await run('cluster', 'drain', '--status')).stdout)).toMatchObject({
        draining: true,
      });
      expect(JSON.parse((await run('cluster')).stdout)).toMatchObject({ brokers: [{ draining: true }] });
      expect(JSON.parse((await run('cluster', 'drain', '--cancel')).stdout)).toMatchObject({
        state: 'serving',
      });
      expect((await run('task', 'publish', 'x', 'y')).code).toBe(0);
    } finally {
      await other.end('SIGTERM');
    }
  });

  test('top shows rates, latencies and the fullest mailboxes', async () => {
    await json('task', 'publish', 'fullest', 'x');
    const { code, stdout } = await hub('top', '--once');
    expect(code).toBe(0);
    for (const part of ['accepted', 'LATENCY (ms)', 'end to end', 'fullest']) expect(stdout).toContain(part);
    expect(await json('top', '--once')).toMatchObject({
      accepted: expect.any(Number),
      durability: 'synced',
      members: 1,
      brokers: [{ shards: 16, draining: false }],
      mailboxes: expect.arrayContaining([expect.objectContaining({ mailbox: 'fullest' })]),
    });
  });

  test('top shows each broker, and the shards that have something to do', async () => {
    const { code, stdout } = await hub('top', '--once', '--here');
    expect(code).toBe(0);
    for (const part of ['BROKER', 'OWNER', 'TASKS/S']) expect(stdout).toContain(part);
    const { shards } = await json<{ shards: { owner: string; pool: string }[] }>('top', '--once', '--here');
    expect(shards).toHaveLength(16);
    expect(new Set(shards.map(({ pool }) => pool))).toEqual(new Set(['default']));
  });

  test('a shard of a broker on its own can not be moved, and says why', async () => {
    const { broker } = await json<{ broker: string }>('cluster');
    const { code, stderr } = await hub('shards', 'move', '3', broker);
    expect(code).toBe(5);
    expect(stderr).toContain('on its own');
    expect((await hub('shards', 'move', '3', 'nobody')).code).toBe(4);
    expect((await hub('shards', 'move', 'x', broker)).code).toBe(2);
  });

  test('top goes on until it is interrupted', async () => {
    const terminal = new TestTerminal();
    const watched = terminal.run('top', '--interval', '10ms', '-o', 'json', '--broker', serve.grpc);
    await until(() => terminal.stdout.text.split('\n').length > 3);
    terminal.interrupt();
    const { code, stdout } = await watched;
    expect(code).toBe(0);
    expect(lines(stdout).length).toBeGreaterThanOrEqual(3);
  });
});

describe('bench', () => {
  const short = ['--duration', '500ms', '--warmup', '200ms'];

  test('at a rate: nothing lost, doubled or out of order, and percentiles for each measure', async () => {
    const report = await json<Report>(
      'bench',
      ...short,
      '--rate',
      '500',
      '--publishers',
      '3',
      '--agents',
      '4',
      '--mailboxes',
      '2',
    );
    const { accepted } = report.ledger;
    expect(report).toMatchObject({
      plan: { rate: 500, publishers: 3, agents: 4, mailboxes: 2, payloadBytes: [256] },
      broker: { log: 'file', durability: 'synced' },
      ledger: { ended: accepted, lost: 0, refused: 0, undecided: 0, doubled: 0, disordered: 0 },
    });
    // 500/s for 0.7 s; the first and the last are due at the ends.
    expect(Math.abs(accepted - 350)).toBeLessThanOrEqual(4);
    for (const measure of ['ack', 'delivered', 'completed']) {
      const { p50, p99, max, count } = report.latencyMs[measure]!;
      expect(count).toBeGreaterThan(200);
      expect(p50).toBeLessThanOrEqual(p99);
      expect(p99).toBeLessThanOrEqual(max);
    }
  });

  test('saturated, without results, for people', async () => {
    const flags = ['--scenario', 'saturation', '--no-results', '--unfinished', '1000', '--payload', '100'];
    const { code, stdout } = await hub('bench', ...short, ...flags);
    expect(code).toBe(0);
    expect(stdout).toContain('publish → delivered');
    expect(stdout).not.toContain('publish → result');
    expect(stdout).toContain('Nothing lost, doubled or out of order.');
  });

  test('with connections that break, bursts, sizes and priorities: nothing is lost, and there is a picture', async () => {
    const plot = join(dir, 'bench.svg');
    const load = ['--rate', '400', '--fan-out', '4', '--payload', '64,1KiB,16KiB', '--mixed-priorities'];
    const faults = ['--kill-connection-every', '300ms', '--plot', plot];
    const span = ['--duration', '1500ms', '--warmup', '100ms', '--sessions', '2'];
    const report = await json<Report & { timeline: object[]; connectionsBroken: number }>(
      'bench',
      ...span,
      ...load,
      ...faults,
    );
    const { accepted } = report.ledger;
    expect(accepted).toBeGreaterThan(0);
    expect(report.ledger).toMatchObject({ ended: accepted, lost: 0, doubled: 0, disordered: 0 });
    expect(report.connectionsBroken).toBeGreaterThan(0);
    expect(report.timeline.length).toBeGreaterThan(0);
    expect(readFileSync(plot, 'utf8')).toContain('<polyline');
  });

  test('an interrupt ends it early, with a report', async () => {
    const terminal = new TestTerminal();
    const measured = terminal.run('bench', '--scenario', 'seed', '-o', 'json', '--broker', serve.grpc);
    await until(async () => (await json<object[]>('mailboxes', 'bench-')).length > 0);
    terminal.interrupt();
    const { code, stdout } = await measured;
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      plan: { publishers: 10, rate: 1000, durationMs: 60_000 },
      ledger: { lost: 0 },
    });
  });
});

describe('errors', () => {
  test.each([
    ['an option that does not exist', ['task', 'list', '--nope'], /unknown option '--nope'/],
    ['nearly an option', ['bench', '--ratee', '5'], /Did you mean --rate/],
    ['a command that does not exist', ['task', 'frobnicate'], /unknown command 'frobnicate'/],
    ['a missing argument', ['task', 'publish'], /missing required argument 'mailbox'/],
    ['a value that is not accepted', ['task', 'list', '--limit', 'many'], /whole number/],
    ['a duration that is none', ['task', 'publish', 'a', 'b', '--delay', 'soon'], /such as 500ms/],
    [
      'a word that is none of the choices',
      ['task', 'publish', 'a', 'b', '--priority', 'asap'],
      /Allowed choices/,
    ],
    ['a header without a value', ['task', 'publish', 'a', 'b', '--header', 'x'], /name=value/],
    ['a file that is not there', ['task', 'publish', 'a', '--file', '/nowhere/at-all'], /can't be read/],
    ['a timeout without --wait', ['task', 'publish', 'a', 'b', '--timeout', '1s'], /--wait/],
    ['lines and a payload', ['task', 'publish', 'a', 'b', '--lines'], /--lines/],
    ['an address that is none', ['task', 'list', '--broker', 'a:b:c'], /--broker/],
    ['authorities that are not there', ['task', 'list', '--ca-file', '/nowhere/ca.pem'], /can't be read/],
    [
      'a configuration file that is not there',
      ['config', 'show', '--config', '/nowhere.yaml'],
      /can't be read/,
    ],
    ['a configuration value that is not accepted', ['config', 'show', '--port', 'x'], /grpc.port/],
  ])('%s: exit code 2, and one line that says what to do', async (_what, args, message) => {
    const { code, stdout, stderr } = await new TestTerminal().run(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: /);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n +at /);
  });

  test('a mailbox that can not be is refused by the broker: exit code 2', async () => {
    const { code, stderr } = await hub('task', 'publish', 'reply:x#y', 'z');
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: /);
  });

  test('no broker: exit code 7, and how to start one', async () => {
    for (const command of [['list'], ['publish', 'a', 'b']]) {
      const { code, stderr } = await new TestTerminal().run('task', ...command, '--broker', '127.0.0.1:1');
      expect(code).toBe(7);
      expect(stderr).toContain('agenthub serve');
    }
  });

  test('a program reads errors as JSON', async () => {
    const { code, stderr } = await hub('task', 'get', 'nothing', '-o', 'json');
    expect(code).toBe(4);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'not_found', message: expect.stringContaining('nothing') },
    });
  });

  test('--debug shows where it came from', async () => {
    const { stderr } = await hub('task', 'get', 'nothing', '--debug');
    expect(stderr).toMatch(/\n +at /);
  });

  test('a group without a verb shows what there is', async () => {
    const { code, stderr } = await new TestTerminal().run('task');
    expect(code).toBe(2);
    expect(stderr).toContain('publish');
  });

  test('help and version are no errors, and every command has examples', async () => {
    expect(await new TestTerminal().run('--version')).toMatchObject({ code: 0, stdout: '0.0.0\n' });
    for (const command of [
      'serve',
      'work',
      'top',
      'bench',
      'agents',
      'mailboxes',
      'shards ls',
      'shards move',
      'task publish',
      'dead purge',
    ]) {
      const { code, stdout } = await new TestTerminal().run(...command.split(' '), '--help');
      expect(code).toBe(0);
      expect(stdout).toContain('Examples:\n  $ agenthub');
    }
  });
});

describe('tokens', () => {
  const AGENT = 'agent-token-0123456789';
  const ADMIN = 'admin-token-0123456789';

  test('are taken from the flag or the environment; without the right one it is exit code 6', async () => {
    const env = { AGENTHUB_AUTH_TOKENS: AGENT, AGENTHUB_AUTH_ADMIN_TOKENS: ADMIN };
    const locked = await ServeProcess.start(join(dir, 'locked'), [], env);
    try {
      const run = (env: Record<string, string>, ...args: string[]): Promise<Said> =>
        new TestTerminal(env).run(...args, '--broker', locked.grpc);
      const nobody = await run({}, 'task', 'list');
      expect(nobody.code).toBe(6);
      expect(nobody.stderr).toContain('hint: give a token with --token');
      expect((await run({ AGENTHUB_CLIENT_TOKEN: AGENT }, 'task', 'list')).code).toBe(0);
      expect((await run({ AGENTHUB_CLIENT_TOKEN: AGENT }, 'shards')).code).toBe(6);
      expect((await run({ AGENTHUB_CLIENT_TOKEN: AGENT }, 'shards', '--token', ADMIN)).code).toBe(0);
    } finally {
      await locked.end('SIGTERM');
    }
  });
});

describe('config', () => {
  test('a flag beats the environment, which beats the file, which beats the default; each says where it is from', async () => {
    const file = join(dir, 'hub.yaml');
    writeFileSync(
      file,
      'grpc: { port: 1111 }\nhttp: { port: 2222 }\nlimits: { sessions: 33 }\nauth: { tokens: secret-secret-secret }\n',
    );
    const env = { AGENTHUB_CONFIG: file, AGENTHUB_HTTP_PORT: '3333', AGENTHUB_GRPC_PORT: '4444' };
    const { stdout } = await new TestTerminal(env).run('config', 'show', '--port', '5555', '-o', 'json');
    const rows = new Map((JSON.parse(stdout) as { key: string }[]).map((row) => [row.key, row]));
    expect(rows.get('grpc.port')).toEqual({ key: 'grpc.port', value: '5555', source: 'flag --grpc-port' });
    expect(rows.get('http.port')).toEqual({
      key: 'http.port',
      value: '3333',
      source: 'env AGENTHUB_HTTP_PORT',
    });
    expect(rows.get('limits.sessions')).toEqual({
      key: 'limits.sessions',
      value: '33',
      source: `file ${file}`,
    });
    expect(rows.get('shards')).toEqual({ key: 'shards', value: '16', source: 'default' });
    expect(stdout).not.toContain('secret-secret');
    const set = await new TestTerminal(env).run('config', 'show', '--set');
    expect(set.stdout).not.toContain('shards');
    expect(set.stdout).toContain('limits.sessions');
  });

  test('path says which file is read', async () => {
    expect((await new TestTerminal({ AGENTHUB_CONFIG: '/etc/hub.yaml' }).run('config', 'path')).stdout).toBe(
      '/etc/hub.yaml\n',
    );
    expect((await new TestTerminal().run('config', 'path', '-o', 'json')).stdout).toBe(
      '{\n  "path": null\n}\n',
    );
  });

  test("clients find the broker by the first AgentHub's variables", async () => {
    const [host = '', port = ''] = serve.grpc.split(':');
    const env = { AGENTHUB_BROKER_ADDR: host, AGENTHUB_BROKER_PORT: port };
    expect((await new TestTerminal(env).run('task', 'list')).code).toBe(0);
  });
});

describe('serve', () => {
  test('as a process: says how to try it, and a command ends with the right code', async () => {
    const dataDir = join(dir, 'spoken');
    const process = new CliProcess(['serve', '--data-dir', dataDir, '--port', '0', '--http-port', '0']);
    const banner = await process.says('--wait');
    expect(banner).toMatch(/gRPC +127\.0\.0\.1:\d+/);
    const port = /gRPC +127\.0\.0\.1:(\d+)/.exec(banner)?.[1];
    const get = await new CliProcess(['task', 'get', 'nothing', '--broker', `localhost:${port}`]).ended;
    expect(get).toMatchObject({ code: 4, stdout: '' });
    const { code, stderr } = await process.end('SIGINT');
    expect(code).toBe(0);
    expect(stderr).toContain('the broker has stopped');
  });

  test('a second signal ends it at once', async () => {
    const stubborn = await ServeProcess.start(join(dir, 'stubborn'), ['--stop-deadline-ms', '10m']);
    const client = await connect({ address: stubborn.grpc });
    const begun = Promise.withResolvers<void>();
    await client.work('forever', () => {
      begun.resolve();
      return new Promise(() => {});
    });
    await client.publish({ to: 'forever', type: 'x' });
    await begun.promise;
    void stubborn.end('SIGTERM');
    await until(() => stubborn.stderr.includes('a second signal stops at once'));
    expect((await stubborn.end('SIGTERM')).code).toBe(143);
    await client.close({ graceMs: 0 });
  });

  test('a folder that another broker holds is refused', async () => {
    const { code, stderr } = await new CliProcess([
      'serve',
      '--data-dir',
      join(dir, 'main'),
      '--port',
      '0',
      '--http-port',
      '0',
    ]).ended;
    expect(code).toBe(5);
    expect(stderr).toMatch(/error: .*another/);
  });

  test('a port that is taken is refused, with the port', async () => {
    const port = serve.grpc.split(':')[1]!;
    const { code, stderr } = await new CliProcess([
      'serve',
      '--data-log',
      'memory',
      '--port',
      port,
      '--http-port',
      '0',
    ]).ended;
    expect(code).not.toBe(0);
    expect(stderr).toContain(port);
    expect(stderr).not.toMatch(/\n +at /);
  });

  test('listening beyond this machine without a token is refused', async () => {
    const { code, stderr } = await new CliProcess(['serve', '--data-log', 'memory', '--grpc-host', '0.0.0.0'])
      .ended;
    expect(code).toBe(5);
    expect(stderr).toContain('--insecure');
  });

  test('SIGTERM under load: exit code 0, and all that was acknowledged is there again', async () => {
    const folder = join(dir, 'stopped');
    const flags = ['--stop-deadline-ms', '5s'];
    const first = await ServeProcess.start(folder, flags);
    const publisher = await connect({ address: first.grpc, publishTimeoutMs: 2_000 });
    const worker = await connect({ address: first.grpc });
    const completed = new Set<string>();
    await worker.work('load', async (task) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      completed.add(task.id);
    });
    const acknowledged: string[] = [];
    let next = 0;
    let open = true;
    const lane = async (): Promise<void> => {
      while (open) {
        const id = `s${next++}`;
        const accepted = await publisher.publish({ to: 'load', type: 'x', id }, { retry: false }).then(
          () => true,
          () => false,
        );
        if (accepted) acknowledged.push(id);
      }
    };
    const lanes = Array.from({ length: 50 }, lane);
    await until(() => acknowledged.length > 2000);
    const { code } = await first.end('SIGTERM');
    expect(code).toBe(0);
    open = false;
    await Promise.all([...lanes, publisher.close({ graceMs: 0 }), worker.close({ graceMs: 0 })]);

    const second = await ServeProcess.start(folder, flags);
    const client = await connect({ address: second.grpc });
    await client.work('load', (task) => {
      completed.add(task.id);
    });
    await until(() => acknowledged.every((id) => completed.has(id)));
    await client.close();
    expect((await second.end('SIGTERM')).code).toBe(0);
  });
});
