import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const MAIN = `${import.meta.dirname}/../../src/cli/main.ts`;

/** How a process has ended, and what it has said. */
export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command line as a process of its own, in an environment of its own. */
export class CliProcess {
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  private readonly child: ChildProcess;
  private heard: (() => void)[] = [];

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const { PATH = '' } = process.env;
    const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH, ...env } });
    this.child = child;
    child.stdout.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
      this.wake();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.ended = once(child, 'close').then(([code, signal]) => {
      this.wake();
      const { stdout, stderr } = this;
      return { code: code as number | null, signal: signal as string | null, stdout, stderr };
    });
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Sends a signal that does not end it. */
  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Sends a signal, and waits for the end. */
  end(signal: NodeJS.Signals): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }

  /** Standard output as soon as there is so much of it; throws if it ends before. */
  async says(text: string): Promise<string> {
    while (!this.stdout.includes(text)) {
      if (!this.running) throw new Error(`the process has ended without saying ${text}: ${this.stderr}`);
      await new Promise<void>((resolve) => this.heard.push(resolve));
    }
    return this.stdout;
  }

  private wake(): void {
    for (const resolve of this.heard.splice(0)) resolve();
  }
}

/** A broker that runs as `agenthub serve`, on free ports if nothing else is said. */
export class ServeProcess extends CliProcess {
  /** Where its ports are; known when it is ready. */
  grpc = '';
  http = '';

  constructor(dir: string, flags: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
    const ports = ['--grpc-port', '0', '--http-port', '0'];
    super(['serve', '-o', 'json', '--data-dir', dir, ...ports, ...flags], env);
  }

  /** Starts a broker and waits until it is ready. */
  static start(...args: ConstructorParameters<typeof ServeProcess>): Promise<ServeProcess> {
    return new ServeProcess(...args).ready();
  }

  /** Resolves when it serves; rejects if it ends before. */
  async ready(): Promise<this> {
    const { grpc, http } = JSON.parse(await this.says('\n')) as { grpc: string; http: string };
    this.grpc = grpc;
    this.http = http;
    return this;
  }
}
