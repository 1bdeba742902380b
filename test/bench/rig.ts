import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BareCalls } from './bare/main.ts';
import type { BrokerCalls } from './broker/main.ts';
import { Child } from './child.ts';
import type { LoadCalls } from './load/main.ts';

/** What measurements run with. */
export interface RigOptions {
  /** A short run, to see that all of it works. */
  readonly quick: boolean;
  /** Where brokers keep their logs; the device that is measured. */
  readonly folder: string;
  /** A folder for CPU profiles of the brokers. */
  readonly profile: string | undefined;
  /** Of many contenders, only those whose name has this in it. */
  readonly match: string;
  /** Says what goes on. */
  readonly tell: (text: string) => void;
}

/** A broker under measurement. */
export interface RunningBroker {
  readonly child: Child<BrokerCalls>;
  readonly port: number;
}

/** Starts and ends the processes of a measurement. */
export class Rig {
  readonly quick: boolean;
  readonly folder: string;
  readonly match: string;
  readonly tell: (text: string) => void;
  private readonly profile: string | undefined;

  constructor(options: RigOptions) {
    this.quick = options.quick;
    this.folder = options.folder;
    this.match = options.match;
    this.tell = options.tell;
    this.profile = options.profile;
  }

  /** Runs `use` with a broker. `flags` as those of `agenthub serve`. */
  async broker<T>(
    flags: Readonly<Record<string, string>>,
    use: (broker: RunningBroker) => Promise<T>,
  ): Promise<T> {
    const dir = mkdtempSync(join(this.folder, 'broker-'));
    const profiling = this.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${this.profile}`];
    const child = new Child<BrokerCalls>('broker/main.ts', ['--expose-gc', ...profiling]);
    try {
      const { grpc } = await child.ask('start', { 'data-dir': dir, ...flags });
      return await use({ child, port: grpc });
    } finally {
      await child.end();
      rmSync(dir, { recursive: true, force: true });
    }
  }

  /** Runs `use` with brokers that were started one after the other, as `b0`, `b1` … */
  brokers<T>(
    flags: Readonly<Record<string, string>>,
    count: number,
    use: (all: readonly RunningBroker[]) => Promise<T>,
    all: readonly RunningBroker[] = [],
  ): Promise<T> {
    if (all.length === count) return use(all);
    return this.broker({ ...flags, 'service-name': `b${all.length}` }, (broker) =>
      this.brokers(flags, count, use, [...all, broker]),
    );
  }

  /** Runs `use` with a bare grpc-js peer. */
  async bare<T>(use: (child: Child<BareCalls>) => Promise<T>): Promise<T> {
    const child = new Child<BareCalls>('bare/main.ts');
    try {
      return await use(child);
    } finally {
      await child.end();
    }
  }

  /** Runs `use` with a maker of load. */
  async load<T>(use: (child: Child<LoadCalls>) => Promise<T>): Promise<T> {
    const child = new Child<LoadCalls>('load/main.ts');
    try {
      return await use(child);
    } finally {
      await child.end();
    }
  }
}
