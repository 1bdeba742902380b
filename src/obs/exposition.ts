import { Registry } from 'prom-client';
import type { Metric } from 'prom-client';
import type { Counter, Histogram } from './instruments.ts';
import type { Metrics } from './metrics.ts';
import type { ProcessProbe } from './process.ts';
import { METRICS, TASK_STATUS } from './table.ts';
import type { MetricName } from './table.ts';

/** What the broker knows of itself at a moment; read at a scrape, never counted along. */
export type GaugeName =
  | 'activeAgents'
  | 'activeTasks'
  | 'queuedTasks'
  | 'queuedBytes'
  | 'oldestTask'
  | 'unservedTasks'
  | 'unservedMailboxes'
  | 'oldestUnserved'
  | 'deadLetters'
  | 'mailboxes'
  | 'workers'
  | 'listeners'
  | 'credit'
  | 'sessions'
  | 'connectedSessions'
  | 'connections'
  | 'shardsOwned'
  | 'shardsComing'
  | 'shardsUnowned'
  | 'shardsTotal'
  | 'shardQueued'
  | 'shardArrivals'
  | 'members'
  | 'links'
  | 'logBytes'
  | 'logRoom'
  | 'logLag'
  | 'memoryLimit'
  | 'natsConnected'
  | 'natsDisconnects'
  | 'natsRoundTrip'
  | 'natsSent'
  | 'natsReceived'
  | 'natsSentMessages'
  | 'natsReceivedMessages'
  | 'streamsUnavailable'
  | 'replicasBehind'
  | 'replicaLag'
  | 'draining'
  | 'certificateRemaining'
  | 'namespaceAgents'
  | 'namespaceQueued'
  | 'namespaceBytes';

/** One value, or one for each value of the metric's label. */
export type Readings = number | Iterable<readonly [label: string, value: number]>;

type Labels = Readonly<Record<string, string | number>>;

/** One line of the exposition, as prom-client takes it. */
interface Sample {
  readonly value: number;
  readonly labels: Labels;
  /** Labels of many samples; prom-client writes the same object once. */
  readonly sharedLabels?: Labels;
  /** If it isn't the one of the metric: histograms have three. */
  readonly metricName?: string;
}

/** Fields of {@link Metrics} that are shown as they are. */
const COUNTERS = [
  'delivered',
  'redelivered',
  'results',
  'progress',
  'duplicates',
  'copiesDropped',
  'appendBytes',
  'replayBytes',
  'stalls',
] as const;
const HISTOGRAMS = [
  'routing',
  'endToEnd',
  'appendSeconds',
  'decisionSeconds',
  'appendTasks',
  'replaySeconds',
] as const;
const BY_LABEL = [
  'refused',
  'limits',
  'dead',
  'audited',
  'denied',
  'appendFailures',
  'ownership',
  'sessionEvents',
  'connectionsBroken',
  'tlsReloads',
] as const;
const RATES = ['tasksPerSecond', 'resultsPerSecond', 'progressPerSecond', 'messagesPerSecond'] as const;

/** What `/metrics` shows: the broker's instruments, read when Prometheus asks and not before. */
export class Exposition {
  readonly #registry = new Registry();

  /** Without a `process` nothing is said about it. */
  constructor(metrics: Metrics, process?: ProcessProbe) {
    this.#showBroker(metrics);
    this.#showTaskTypes(metrics);
    this.#showNamespaces(metrics);
    if (process !== undefined) this.#showProcess(process);
  }

  /** From now on shows these gauges, too. Each may be given once. */
  watch(sources: Readonly<Partial<Record<GaugeName, () => Readings>>>): void {
    for (const [name, read] of Object.entries(sources)) this.#watch(name as GaugeName, read);
  }

  #watch(row: GaugeName, read: () => Readings): void {
    const [label = ''] = METRICS[row].labels;
    this.#show(row, () => {
      const seen = read();
      if (typeof seen === 'number') return [single(seen)];
      return Array.from(seen, ([value, reading]) => single(reading, { [label]: value }));
    });
  }

  /** The content type of {@link text}. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All of it, as https://prometheus.io/docs/instrumenting/exposition_formats/ says. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #showBroker(metrics: Metrics): void {
    for (const name of COUNTERS) this.#show(name, () => [single(metrics[name].value)]);
    this.#show('messages', () => [single(metrics.messages)]);
    for (const name of RATES) this.#gauge(name, () => metrics.rates()[name]);
    for (const name of HISTOGRAMS) this.#show(name, () => buckets(name, metrics[name]));
    for (const name of BY_LABEL)
      this.#show(name, () => each(METRICS[name].labels[0], metrics[name].entries()));
    this.#show('handover', () =>
      [...metrics.handover.entries()].flatMap(([side, pauses]) => buckets('handover', pauses, { side })),
    );
  }

  #showTaskTypes({ taskTypes }: Metrics): void {
    this.#show('tasks', () =>
      [...taskTypes.entries()].flatMap(([task_type, figures]) =>
        TASK_STATUS.map((status) => single(figures[status].value, { task_type, status })),
      ),
    );
    this.#show('taskDuration', () =>
      [...taskTypes.entries()].flatMap(([task_type, { duration }]) =>
        buckets('taskDuration', duration, { task_type }),
      ),
    );
  }

  #showNamespaces({ namespaces }: Metrics): void {
    this.#show('namespaceTasks', () =>
      [...namespaces.entries()].flatMap(([namespace, { accepted, delivered }]) => [
        single(accepted.value, { namespace, status: 'accepted' }),
        single(delivered.value, { namespace, status: 'delivered' }),
      ]),
    );
    this.#show('namespaceRefused', () =>
      [...namespaces.entries()].flatMap(([namespace, { refused }]) =>
        Object.entries(refused).map(([limit, { value }]) => single(value, { namespace, limit })),
      ),
    );
  }

  #showProcess(process: ProcessProbe): void {
    this.#gauge('cpu', () => process.cpu());
    this.#gauge('eventLoop', () => process.eventLoopUtilization());
    this.#gauge('cpuSeconds', () => process.cpuSeconds());
    this.#gauge('startTime', () => process.startedAtSeconds);
    this.#gauge('resident', () => process.memory().rss);
    this.#gauge('heapUsed', () => process.memory().heapUsed);
    this.#gauge('heapTotal', () => process.memory().heapTotal);
    this.#gauge('external', () => process.memory().external);
    this.#show('eventLoopDelay', () => {
      const { median, p99, max } = process.loopDelay();
      return [
        single(median, { quantile: 0.5 }),
        single(p99, { quantile: 0.99 }),
        single(max, { quantile: 1 }),
      ];
    });
    this.#show('gcPauses', () =>
      [...process.gcPauses()].flatMap(([kind, pauses]) => buckets('gcPauses', pauses, { kind })),
    );
  }

  #gauge(name: MetricName, read: () => number): void {
    this.#show(name, () => [single(read())]);
  }

  /** Of a metric the registry needs a name and `get()`; its types ask for one of its own four classes. */
  #show(row: MetricName, read: () => readonly Sample[]): void {
    const { name, type, help } = METRICS[row];
    const get = () => Promise.resolve({ name, help, type, aggregator: 'sum', values: read() });
    this.#registry.registerMetric({ name, get } as unknown as Metric);
  }
}

function single(value: number, labels: Labels = {}): Sample {
  return { value, labels };
}

function each(label: string, counters: Iterable<readonly [string, Counter]>): readonly Sample[] {
  return Array.from(counters, ([value, counter]) => single(counter.value, { [label]: value }));
}

function buckets(row: MetricName, histogram: Histogram, sharedLabels: Labels = {}): readonly Sample[] {
  const { name } = METRICS[row];
  const seen = histogram.cumulative();
  const samples: Sample[] = [];
  const add = (suffix: string, value: number, labels: Labels) => {
    samples.push({ value, labels, sharedLabels, metricName: name + suffix });
  };
  for (const [index, le] of [...histogram.bounds, '+Inf'].entries()) add('_bucket', seen[index] ?? 0, { le });
  add('_sum', histogram.sum, {});
  add('_count', seen.at(-1) ?? 0, {});
  return samples;
}
