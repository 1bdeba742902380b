import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decideScale } from '../../../operator/plan/scale.ts';
import type { BrokerLoad, ScaleDecision, ScaleInput } from '../../../operator/plan/scale.ts';
import type { ScalingStatus } from '../../../operator/api/status.ts';
import { formatTime } from '../../../operator/plan/words.ts';
import { capacity, cluster, shard, START } from './support.ts';

const SHARDS = 16;
const NO_MANNERS = {
  scaleUp: { stabilizationWindowSeconds: 0, policies: [] },
  scaleDown: { stabilizationWindowSeconds: 0, policies: [] },
};

/** One target counts, the others are off. */
const only = (target: object) => ({
  tasksPerSecond: 0,
  agents: 0,
  cpuPercent: 0,
  memoryPercent: 0,
  ...target,
});

const autoscaling = (spec: object) => cluster({ autoscaling: spec }).spec.autoscaling;

interface Case {
  readonly spec?: object;
  readonly pool?: Partial<ScaleInput['pool']>;
  readonly current: number;
  readonly brokers: readonly BrokerLoad[];
  readonly history?: ScalingStatus;
  readonly now?: number;
}

function decide({ spec = {}, pool = {}, current, brokers, history, now = START }: Case): ScaleDecision {
  return decideScale({
    now,
    spec: autoscaling({ ...NO_MANNERS, ...spec }),
    pool: { minReplicas: 1, maxReplicas: 16, shards: SHARDS, cpuCores: 1, ...pool },
    current,
    brokers,
    history,
  });
}

/** Ready brokers, each with so many cores in use; a text is what another kind of broker is. */
function withCpu(...cores: (number | 'missing' | 'unready' | 'stale')[]): BrokerLoad[] {
  return cores.map((cpu, index) => {
    const broker = `hub-default-${index}`;
    if (cpu === 'missing') return { pod: broker, ready: false };
    if (cpu === 'unready')
      return { pod: broker, ready: false, document: capacity(broker, { cpu: 9 }), receivedAt: START };
    if (cpu === 'stale')
      return { pod: broker, ready: true, document: capacity(broker), receivedAt: START - 120_000 };
    return { pod: broker, ready: true, document: capacity(broker, { cpu }), receivedAt: START };
  });
}

/** Brokers that share the shards as the cluster shares them, each shard with its load. */
function withShards(brokers: number, loads: readonly number[], bytes: readonly number[] = []): BrokerLoad[] {
  return Array.from({ length: brokers }, (_, index) => {
    const broker = `hub-default-${index}`;
    const shards = loads.flatMap((load, number) =>
      number % brokers === index ? [shard(number, load, bytes[number] ?? 0)] : [],
    );
    const held = shards.reduce((sum, each) => sum + each.bytes, 0);
    const document = capacity(broker, { shards, memory: 100 * 2 ** 20 + held });
    return { pod: broker, ready: true, document, receivedAt: START };
  });
}

describe("the HorizontalPodAutoscaler's published rules, for what is summed", () => {
  const half = { targets: only({ cpuPercent: 50 }) };
  test.each<[string, number, BrokerLoad[], number]>([
    ['twice the target doubles', 2, withCpu(1, 1), 4],
    ['half the target halves', 4, withCpu(0.25, 0.25, 0.25, 0.25), 2],
    ['the ratio is rounded up', 3, withCpu(0.6, 0.6, 0.6), 4],
    ['within the tolerance nothing changes, above', 3, withCpu(0.54, 0.54, 0.54), 3],
    ['within the tolerance nothing changes, below', 3, withCpu(0.46, 0.46, 0.46), 3],
    ['just beyond the tolerance it does', 3, withCpu(0.56, 0.56, 0.56), 4],
    ['never fewer than one', 2, withCpu(0, 0), 1],
    ['missing brokers count as idle on the way up', 3, withCpu(1, 1, 'missing'), 4],
    [
      'missing brokers that would turn the way up into down hold it',
      4,
      withCpu(0.6, 0.6, 'missing', 'missing'),
      4,
    ],
    ['missing brokers count as full on the way down', 4, withCpu(0.1, 0.1, 0.1, 'missing'), 2],
    ['missing brokers that would turn the way down into up hold it', 2, withCpu(0.4, 'missing'), 2],
    [
      'brokers that are not ready yet count as idle on the way up, whatever they say',
      3,
      withCpu(1, 1, 'unready'),
      4,
    ],
    ['brokers that are still to be made count too', 4, withCpu(0.8, 0.8), 4],
    ['no broker that tells its load: nothing changes', 3, withCpu('missing', 'missing', 'missing'), 3],
  ])('%s', (_, current, brokers, expected) => {
    expect(decide({ spec: half, current, brokers }).replicas).toBe(expected);
  });

  test('brokers that have just become ready say nothing of CPU: they warm up', () => {
    const young = withCpu(1, 1).map((broker) => ({ ...broker, readySince: START - 30_000 }));
    expect(decide({ spec: half, current: 2, brokers: young }).replicas).toBe(2);
    const [old] = withCpu(1);
    expect(decide({ spec: half, current: 2, brokers: [old!, young[1]!] }).replicas).toBe(2);
    expect(decide({ spec: half, current: 2, brokers: withCpu(1, 1) }).replicas).toBe(4);
  });

  test('the figure that asks for most counts', () => {
    const brokers = [0, 1].map((index) => {
      const broker = `hub-default-${index}`;
      const document = capacity(broker, { cpu: 0.1, activeAgents: 900 });
      return { pod: broker, ready: true, document, receivedAt: START };
    });
    const spec = { targets: only({ cpuPercent: 50, agents: 300 }) };
    const decision = decide({ spec, current: 2, brokers });
    expect(decision).toMatchObject({ replicas: 6, limit: 'nothing' });
    expect(decision.metrics).toEqual([
      { name: 'agents', current: '900', target: '300', replicas: 6 },
      { name: 'cpu', current: '0.10 cores', target: '0.50 cores', replicas: 1 },
    ]);
    expect(decision.reason).toBe('2 → 6: each broker has 900 agents, of 300 it should; 6 brokers are needed');
  });
});

describe('what shards carry', () => {
  const spec = { targets: only({ tasksPerSecond: 1000 }) };

  test('the smallest number of brokers counts of which the busiest is within the target', () => {
    const even = Array<number>(16).fill(500);
    expect(decide({ spec, current: 4, brokers: withShards(4, even) }).replicas).toBe(8);
  });

  test('it is what the cluster would really do with the shards, not an average', () => {
    // 4 brokers have 4 shards each; all that is heavy sits on one of them.
    const loads = Array.from({ length: 16 }, (_, number) => (number % 4 === 0 ? 450 : 0));
    const decision = decide({ spec, current: 4, brokers: withShards(4, loads) });
    expect(decision.replicas).toBeGreaterThan(4);
    expect(decision.reason).toMatch(
      /^4 → \d+: the busiest broker carries 1,800 tasks\/s, of 1,000 it should/,
    );
  });

  test('more brokers than shards are of no use', () => {
    const decision = decide({
      spec: { targets: only({ agents: 1 }) },
      current: 4,
      pool: { shards: 6 },
      brokers: withCpu(0, 0, 0, 0).map((broker) => ({
        ...broker,
        document: capacity(broker.pod, { activeAgents: 100 }),
      })),
    });
    expect(decision).toMatchObject({ replicas: 6, limit: 'shards' });
    expect(decision.reason).toContain('but there are only 6 shards');
  });

  test('one shard above the target is said, and asks for no brokers', () => {
    const loads = [5000, ...Array<number>(15).fill(100)];
    const decision = decide({ spec, current: 2, brokers: withShards(2, loads) });
    expect(decision.hot).toEqual([{ shard: 0, tasksPerSecond: 5000 }]);
    expect(decision.replicas).toBe(2);
  });

  test('of shards that nobody told of, the worst is assumed on the way down', () => {
    const idle = Array<number>(16).fill(10);
    const [first, second, third, ...rest] = withShards(4, idle);
    const missing = rest.map(({ pod }) => ({ pod, ready: false }));
    const all = decide({ spec, current: 4, brokers: withShards(4, idle) }).replicas;
    const some = decide({ spec, current: 4, brokers: [first!, second!, third!, ...missing] }).replicas;
    expect(all).toBe(1);
    expect(some).toBe(2);
  });

  test('fewer brokers must be able to hold the backlog', () => {
    const idle = Array<number>(16).fill(1);
    const bytes = Array<number>(16).fill(60 * 2 ** 20);
    const decision = decide({ spec, current: 8, brokers: withShards(8, idle, bytes) });
    // 100 MiB idle + 4 × 60 MiB fit into 90 % of 700 MiB, and so do 8 × 60 MiB.
    expect(decision).toMatchObject({ replicas: 2, limit: 'backlog' });
    expect(decision.reason).toBe('8 → 2: 1 would do by the load, but could not hold the backlog in memory');
  });
});

describe('manners', () => {
  const spec = { targets: only({ cpuPercent: 50 }) };
  const idle = withCpu(0.1, 0.1, 0.1, 0.1, 0.1, 0.1);
  const at = (seconds: number) => formatTime(START + seconds * 1000);

  test('never down while a ready broker does not tell its load', () => {
    const decision = decide({ spec, current: 4, brokers: withCpu(0.05, 0.05, 0.05, 'stale') });
    expect(decision).toMatchObject({ replicas: 4, limit: 'stale', stale: ['hub-default-3'] });
    expect(decision.reason).toContain('hub-default-3 has not told its load lately');
  });

  test('a broker that has just become ready has time to tell it', () => {
    const young = { pod: 'hub-default-3', ready: true, readySince: START - 10_000 };
    const brokers = [...withCpu(0.05, 0.05, 0.05), young];
    expect(decide({ spec, current: 4, brokers })).toMatchObject({ stale: [], replicas: 2 });
  });

  test('but up all the same', () => {
    expect(decide({ spec, current: 4, brokers: withCpu(1, 1, 1, 'stale') }).replicas).toBe(6);
  });

  test('bounds hold, and a number outside of them is brought back at once', () => {
    const pool = { minReplicas: 3, maxReplicas: 5 };
    expect(decide({ spec, pool, current: 4, brokers: withCpu(3, 3, 3, 3) })).toMatchObject({
      replicas: 5,
      limit: 'bounds',
    });
    expect(decide({ spec, pool, current: 4, brokers: withCpu(0, 0, 0, 0) })).toMatchObject({
      replicas: 3,
      limit: 'bounds',
    });
    expect(decide({ spec, pool, current: 9, brokers: [] }).replicas).toBe(5);
    expect(decide({ spec, pool, current: 1, brokers: [] }).replicas).toBe(3);
  });

  test('down only when nothing more was asked for within the window', () => {
    const down = { ...spec, scaleDown: { stabilizationWindowSeconds: 300, policies: [] } };
    let history: ScalingStatus | undefined;
    let current = 6;
    const curve: number[] = [];
    for (let seconds = 0; seconds <= 330; seconds += 15) {
      const now = START + seconds * 1000;
      const brokers = idle.slice(0, current).map((broker) => ({ ...broker, receivedAt: now }));
      const decision = decide({ spec: down, current, brokers, now, ...(history && { history }) });
      ({ replicas: current, history } = decision);
      curve.push(current);
    }
    expect(curve.slice(0, 20)).toEqual(Array<number>(20).fill(6));
    expect(curve.at(-1)).toBe(2);
  });

  test('the window outlives the operator, and an operator that forgot waits anew', () => {
    const down = { ...spec, scaleDown: { stabilizationWindowSeconds: 300, policies: [] } };
    const asked = (seconds: number): ScalingStatus => ({
      recommended: 2,
      reason: '',
      recommendations: [
        { time: at(-900), replicas: 6 },
        { time: at(-seconds), replicas: 2 },
      ],
    });
    expect(decide({ spec: down, current: 6, brokers: idle, history: asked(299) })).toMatchObject({
      replicas: 6,
      limit: 'window',
    });
    expect(decide({ spec: down, current: 6, brokers: idle, history: asked(301) }).replicas).toBe(2);
    expect(decide({ spec: down, current: 6, brokers: idle }).replicas).toBe(6);
  });

  test('up at once, or only when so many were asked for all through the window', () => {
    const busy = withCpu(1, 1);
    const slow = { ...spec, scaleUp: { stabilizationWindowSeconds: 60, policies: [] } };
    const history: ScalingStatus = {
      recommended: 4,
      reason: '',
      recommendations: [
        { time: at(-600), replicas: 2 },
        { time: at(-30), replicas: 4 },
      ],
    };
    expect(decide({ spec, current: 2, brokers: busy, history }).replicas).toBe(4);
    expect(decide({ spec: slow, current: 2, brokers: busy, history })).toMatchObject({
      replicas: 2,
      limit: 'window',
    });
  });

  const policy = (type: string, value: number, periodSeconds = 60) => ({ type, value, periodSeconds });
  const change = (seconds: number, from: number, to: number): ScalingStatus => ({
    recommended: to,
    reason: '',
    recommendations: [{ time: at(-3600), replicas: to }],
    changes: [{ time: at(-seconds), from, to, reason: '' }],
  });
  test.each<[string, object, number, number, ScalingStatus | undefined, number]>([
    ['so many pods', { policies: [policy('Pods', 2)] }, 2, 3, undefined, 4],
    ['so many percent, rounded up', { policies: [policy('Percent', 50)] }, 3, 3, undefined, 5],
    [
      'the policy that allows most',
      { policies: [policy('Pods', 1), policy('Percent', 100)] },
      3,
      3,
      undefined,
      6,
    ],
    [
      'or that which allows least',
      { selectPolicy: 'Min', policies: [policy('Pods', 1), policy('Percent', 100)] },
      3,
      3,
      undefined,
      4,
    ],
    ['or none', { selectPolicy: 'Disabled', policies: [policy('Pods', 9)] }, 3, 3, undefined, 3],
    ['what was added within the period counts', { policies: [policy('Pods', 4)] }, 5, 3, change(30, 2, 5), 6],
    ['what was added before it does not', { policies: [policy('Pods', 4)] }, 5, 3, change(61, 2, 5), 9],
  ])('up by %s', (_, scaleUp, current, cpu, history, expected) => {
    const brokers = withCpu(...Array<number>(current).fill(cpu));
    const manners = { ...spec, scaleUp: { stabilizationWindowSeconds: 0, ...scaleUp } };
    expect(decide({ spec: manners, current, brokers, ...(history && { history }) }).replicas).toBe(expected);
  });

  test.each<[string, object, number, ScalingStatus | undefined, number]>([
    ['so many pods', { policies: [policy('Pods', 2)] }, 6, undefined, 4],
    ['so many percent', { policies: [policy('Percent', 50)] }, 6, undefined, 3],
    [
      'the policy that allows most',
      { policies: [policy('Pods', 1), policy('Percent', 50)] },
      6,
      undefined,
      3,
    ],
    [
      'or that which allows least',
      { selectPolicy: 'Min', policies: [policy('Pods', 1), policy('Percent', 50)] },
      6,
      undefined,
      5,
    ],
    ['or none', { selectPolicy: 'Disabled', policies: [policy('Pods', 9)] }, 6, undefined, 6],
    ['what was removed within the period counts', { policies: [policy('Pods', 2)] }, 5, change(30, 6, 5), 4],
    ['what was removed before it does not', { policies: [policy('Pods', 2)] }, 5, change(61, 6, 5), 3],
  ])('down by %s', (_, scaleDown, current, history, expected) => {
    const manners = { ...spec, scaleDown: { stabilizationWindowSeconds: 0, ...scaleDown } };
    const brokers = withCpu(...Array<number>(current).fill(0.01));
    expect(decide({ spec: manners, current, brokers, ...(history && { history }) }).replicas).toBe(expected);
  });

  test('nothing is kept anew while nothing changes, so that nothing is written', () => {
    const brokers = withCpu(0.5, 0.5, 0.5);
    const first = decide({ spec, current: 3, brokers });
    const later = decide({
      spec,
      current: 3,
      brokers: brokers.map((broker) => ({ ...broker, receivedAt: START + 3_600_000 })),
      now: START + 3_600_000,
      history: first.history,
    });
    expect(later.history).toBe(first.history);
  });
});

describe('always', () => {
  const broker = fc.record({
    cpu: fc.double({ min: 0, max: 2, noNaN: true }),
    activeAgents: fc.nat(50_000),
    memory: fc.integer({ min: 50, max: 900 }).map((mib) => mib * 2 ** 20),
    kind: fc.constantFrom('ready', 'ready', 'ready', 'missing', 'stale'),
  });
  const situation = fc.record({
    brokers: fc.array(broker, { minLength: 1, maxLength: 12 }),
    loads: fc.array(fc.nat(80_000), { minLength: SHARDS, maxLength: SHARDS }),
    current: fc.integer({ min: 1, max: 14 }),
    min: fc.integer({ min: 1, max: 4 }),
    max: fc.integer({ min: 4, max: 16 }),
  });
  const input = ({
    brokers,
    loads,
    current,
    min,
    max,
  }: typeof situation extends fc.Arbitrary<infer T> ? T : never): ScaleInput => ({
    now: START,
    spec: autoscaling({}),
    pool: { minReplicas: min, maxReplicas: max, shards: SHARDS, cpuCores: 0.5 },
    current,
    brokers: brokers.map(({ kind, ...figures }, index) => {
      const pod = `hub-default-${index}`;
      if (kind === 'missing') return { pod, ready: false };
      const shards = loads.flatMap((load, number) =>
        number % brokers.length === index ? [shard(number, load)] : [],
      );
      const receivedAt = kind === 'stale' ? START - 600_000 : START;
      return { pod, ready: true, document: capacity(pod, { ...figures, shards }), receivedAt };
    }),
    history: undefined,
  });

  test('the number is within the bounds, and has a reason', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const { replicas, reason } = decideScale(input(given));
        expect(replicas).toBeGreaterThanOrEqual(given.min);
        expect(replicas).toBeLessThanOrEqual(given.max);
        expect(reason).not.toBe('');
      }),
    );
  });

  test('stale brokers never make it smaller', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const asked = input(given);
        const decision = decideScale(asked);
        const bounded = Math.min(asked.current, given.max);
        if (decision.stale.length > 0) expect(decision.replicas).toBeGreaterThanOrEqual(bounded);
      }),
    );
  });

  test('more load never asks for fewer brokers', () => {
    fc.assert(
      fc.property(situation, fc.double({ min: 1, max: 5, noNaN: true }), (given, factor) => {
        const spec = autoscaling({ targets: only({ cpuPercent: 70, agents: 10_000 }) });
        const more = given.brokers.map((each) => ({
          ...each,
          cpu: each.cpu * factor,
          activeAgents: Math.ceil(each.activeAgents * factor),
        }));
        const less = decideScale({ ...input(given), spec }).recommended;
        expect(
          decideScale({ ...input({ ...given, brokers: more }), spec }).recommended,
        ).toBeGreaterThanOrEqual(less);
      }),
    );
  });

  test('asking again with what was decided and kept changes nothing', () => {
    fc.assert(
      fc.property(situation, (given) => {
        const first = decideScale(input(given));
        const again = { ...input(given), current: first.replicas, history: first.history };
        const second = decideScale(again);
        const third = decideScale({ ...again, current: second.replicas, history: second.history });
        expect(third.history).toBe(
          decideScale({ ...again, current: third.replicas, history: third.history }).history,
        );
      }),
    );
  });
});
