import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { until } from './inbox.ts';
import { freePort } from './nats-server.ts';

const BINARY = `${import.meta.dirname}/../../.tools/bin/prometheus`;

/** A series and its values over time: Unix seconds and numbers. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [at: number, value: number])[];
}

/** What a Prometheus is told. */
export interface PrometheusOptions {
  /** By job: `host:port` of what it scrapes once a second, by HTTPS if the job's name ends in `tls`. */
  readonly targets: Readonly<Record<string, readonly string[]>>;
  /** Documents of rules. */
  readonly rules?: readonly object[];
}

/** A real Prometheus on loopback. */
export class Prometheus {
  readonly url: string;
  private readonly dir: string;
  private readonly child: ChildProcess;

  static async start(options: PrometheusOptions): Promise<Prometheus> {
    if (!existsSync(BINARY))
      throw new Error('there is no Prometheus to test with; build it: make prometheus');
    const prometheus = new Prometheus(await freePort(), options);
    await until(() => prometheus.ready());
    return prometheus;
  }

  private constructor(port: number, { targets, rules = [] }: PrometheusOptions) {
    this.url = `http://127.0.0.1:${port}`;
    this.dir = mkdtempSync(join(tmpdir(), 'agenthub-prometheus-'));
    const files = rules.map((document, index) => {
      const file = join(this.dir, `rules-${index}.yaml`);
      writeFileSync(file, stringify(document));
      return file;
    });
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: files,
      scrape_configs: Object.entries(targets).map(([job_name, hosts]) => ({
        job_name,
        ...(job_name.endsWith('tls') ? { scheme: 'https', tls_config: { insecure_skip_verify: true } } : {}),
        static_configs: [{ targets: hosts }],
      })),
    };
    const file = join(this.dir, 'prometheus.yaml');
    writeFileSync(file, stringify(config));
    this.child = spawn(
      BINARY,
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${this.dir}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=error',
      ],
      { stdio: 'ignore' },
    );
  }

  /** What the query gives over that time, in Unix seconds, a value a second. */
  async range(query: string, start: number, end: number): Promise<Series[]> {
    const parameters = { query, start: String(start), end: String(end), step: '1' };
    const { result } = await this.ask<{ result: { metric: Series['labels']; values: [number, string][] }[] }>(
      'query_range',
      parameters,
    );
    return result.map(({ metric, values }) => ({
      labels: metric,
      values: values.map(([at, value]) => [at, Number(value)] as const),
    }));
  }

  /** The value of an expression now that gives one; `undefined` if it gives none. */
  async value(query: string): Promise<number | undefined> {
    const { result } = await this.ask<{ result: { value: [number, string] }[] }>('query', { query });
    return result[0] === undefined ? undefined : Number(result[0].value[1]);
  }

  /** Names of the alerts that have fired at any time in those seconds. */
  async fired(start: number, end: number): Promise<Set<string>> {
    const series = await this.range('ALERTS{alertstate="firing"}', start, end);
    return new Set(series.map(({ labels }) => labels['alertname']!));
  }

  async remove(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
    rmSync(this.dir, { recursive: true, force: true });
  }

  private async ask<T>(what: string, parameters: Readonly<Record<string, string>>): Promise<T> {
    const response = await fetch(`${this.url}/api/v1/${what}?${new URLSearchParams(parameters).toString()}`);
    const answer = (await response.json()) as { status: string; data: T; error?: string };
    if (answer.status !== 'success') throw new Error(`${parameters['query']}: ${answer.error}`);
    return answer.data;
  }

  private async ready(): Promise<boolean> {
    if (this.child.exitCode !== null) throw new Error('Prometheus has ended at its start');
    return fetch(`${this.url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  }
}
