import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { METRICS } from '../../src/obs/table.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';

/** Labels of which the configuration says how many values they may have. */
const CAPPED_LABELS = ['task_type', 'namespace'];
/** Labels whose values come from the code or the configuration of the broker, so there are only a few. */
const OWN_LABELS = [
  'action',
  'change',
  'connection',
  'event',
  'kind',
  'limit',
  'quantile',
  'reason',
  'result',
  'shard',
  'side',
  'state',
  'status',
];

async function scrape({ embedded }: TestBroker): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${embedded.httpPort}/metrics`);
  return response.text();
}

/** The value of a series; `undefined` if there is none. */
function value(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

async function seriesOf(broker: TestBroker, series: string): Promise<number | undefined> {
  return value(await scrape(broker), series);
}

describe('what a broker of a cluster shows', () => {
  const { start } = clusters();
  let server: NatsServer;
  beforeAll(async () => {
    server = await NatsServer.start();
  });
  afterAll(() => server.remove());

  test('is every metric of the table, and who owns what, and how its connections are', async () => {
    const cluster = await start(server, 2, { shards: 4 });
    await until(() => cluster.served.join() === '2,2');
    const [one, two] = cluster.brokers as [TestBroker, TestBroker];
    const text = await scrape(one);
    for (const { name, type } of Object.values(METRICS)) expect(text).toContain(`# TYPE ${name} ${type}\n`);
    expect(value(text, 'agenthub_shards_owned')).toBe(2);
    expect(value(text, 'agenthub_shards')).toBe(4);
    expect(value(text, 'agenthub_members')).toBe(2);
    expect(value(text, 'agenthub_shards_unowned')).toBe(0);
    expect(value(text, 'agenthub_nats_streams_unavailable')).toBe(0);
    for (const connection of ['writing', 'reading', 'bus', 'documents']) {
      expect(value(text, `agenthub_nats_connected{connection="${connection}"}`)).toBe(1);
      expect(value(text, `agenthub_nats_disconnects_total{connection="${connection}"}`)).toBe(0);
    }
    await until(
      async () => (await seriesOf(one, 'agenthub_nats_round_trip_seconds{connection="writing"}'))! > 0,
    );
    // Both served all shards for a moment, or one gave two of them to the other.
    const changes = 'agenthub_ownership_changes_total';
    const taken = (await seriesOf(two, `${changes}{change="taken"}`))!;
    expect(await seriesOf(two, 'agenthub_handover_pause_seconds_count{side="take"}')).toBe(taken);
    expect(await seriesOf(one, `${changes}{change="released"}`)).toBe(2);
    expect(await seriesOf(one, 'agenthub_handover_pause_seconds_count{side="release"}')).toBe(2);

    await two.stop();
    await until(async () => (await seriesOf(one, 'agenthub_shards_owned')) === 4);
    expect(await seriesOf(one, 'agenthub_members')).toBe(1);
    expect(await seriesOf(one, 'agenthub_replay_seconds_count')).toBeGreaterThanOrEqual(6);
  });
});

describe('what a broker shows', () => {
  const { start } = brokers();

  test('of agents that are not there, credit, sessions and the log', async () => {
    const broker = await start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'here', { window: 10 });
    await agent.publish([{ to: 'here' }, { to: 'here' }, { to: 'away' }]);
    await agent.ids(2);
    const text = await scrape(broker);
    expect(value(text, 'agenthub_unserved_tasks')).toBe(1);
    expect(value(text, 'agenthub_unserved_mailboxes')).toBe(1);
    expect(value(text, 'agenthub_oldest_unserved_task_age_seconds')).toBeGreaterThanOrEqual(0);
    expect(value(text, 'agenthub_credit{state="used"}')).toBe(2);
    expect(value(text, 'agenthub_credit{state="free"}')).toBe(8);
    expect(value(text, 'agenthub_workers')).toBe(1);
    expect(value(text, 'agenthub_log_batch_tasks_sum')).toBe(3);
    expect(value(text, 'agenthub_log_append_bytes_total')).toBeGreaterThan(0);
    expect(value(text, 'agenthub_session_events_total{event="opened"}')).toBe(1);

    const { sessionId } = agent;
    await agent.drop();
    await until(async () => (await seriesOf(broker, 'agenthub_session_events_total{event="lost"}')) === 1);
    expect(await seriesOf(broker, 'agenthub_sessions_connected')).toBe(0);
    const again = await Agent.connect(broker, { sessionId, incarnation: 2 });
    expect(await seriesOf(broker, 'agenthub_session_events_total{event="resumed"}')).toBe(1);
    again.hangUp();
  });

  test('does not grow with the agents and the types of tasks', async () => {
    for (const { labels } of Object.values(METRICS))
      for (const label of labels) expect([...OWN_LABELS, ...CAPPED_LABELS]).toContain(label);
    const broker = await start({ metrics: { taskTypes: 20 } });
    const agent = await Agent.connect(broker);
    const publish = (first: number, count: number) =>
      agent.publish(
        Array.from({ length: count }, (_, index) => ({
          to: `agent-${first + index}`,
          type: `type-${first + index}`,
        })),
      );
    await publish(0, 30);
    const before = (await scrape(broker)).split('\n').length;
    for (let first = 30; first < 5000; first += 1000) await publish(first, 1000);
    const after = await scrape(broker);
    expect(value(after, 'agenthub_mailboxes')).toBeGreaterThan(4900);
    expect(after.split('\n')).toHaveLength(before);
  }, 60_000);
});
