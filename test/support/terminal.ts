import { Readable, Writable } from 'node:stream';
import { Cli } from '../../src/cli/cli.ts';
import { run } from '../../src/cli/run.ts';
import type { Interruption, Terminal } from '../../src/cli/terminal.ts';
import { systemClock } from '../../src/std/system.ts';

/** What a command has said, and how it has ended. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A terminal that nobody sits at: runs commands in this process. */
export class TestTerminal implements Terminal {
  readonly stdin: Readable;
  readonly stdout = new Paper();
  readonly stderr = new Paper();
  readonly env: Readonly<Record<string, string>>;
  private readonly controller = new AbortController();

  constructor(env: Readonly<Record<string, string>> = {}, input = '') {
    this.env = env;
    this.stdin = Readable.from([Buffer.from(input)]);
  }

  untilInterrupted(): Interruption {
    return { signal: this.controller.signal, [Symbol.dispose]() {} };
  }

  /** As Ctrl-C. */
  interrupt(): void {
    this.controller.abort('SIGINT');
  }

  /** Runs a command to its end. */
  async run(...args: readonly string[]): Promise<Said> {
    const code = await run(args, new Cli(this, systemClock, '0.0.0'));
    return { code, stdout: this.stdout.text, stderr: this.stderr.text };
  }
}

/** Keeps what is written on it. */
class Paper extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}
