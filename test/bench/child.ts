import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What a process of the benchmark can be asked to do. */
type Calls<Interface> = { [Name in keyof Interface]: (input: never) => unknown };
type Input<Call> = Call extends (input: infer I) => unknown ? I : never;
type Output<Call> = Call extends (input: never) => infer O ? Awaited<O> : never;

interface Question {
  readonly id: number;
  readonly name: string;
  readonly input: unknown;
}

interface Answer {
  readonly id: number;
  readonly output?: unknown;
  readonly error?: string;
}

/** A process of the benchmark: the broker, the bare peer, or who makes the load. */
export class Child<Interface extends Calls<Interface>> {
  private readonly process: ChildProcess;
  private readonly waiting = new Map<
    number,
    { resolve: (output: never) => void; reject: (error: Error) => void }
  >();
  private asked = 0;

  /** @param script relative to this folder. @param options for Node, such as `--cpu-prof`. */
  constructor(script: string, options: readonly string[] = []) {
    const path = fileURLToPath(new URL(script, import.meta.url));
    this.process = fork(path, { execArgv: [...options], serialization: 'advanced' });
    this.process.on('message', ({ id, output, error }: Answer) => {
      const call = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) call?.resolve(output as never);
      else call?.reject(new Error(`${script}: ${error}`));
    });
    this.process.on('exit', (code, signal) => {
      const why = new Error(`${script} ended (${signal ?? `exit code ${code}`})`);
      for (const { reject } of this.waiting.values()) reject(why);
      this.waiting.clear();
    });
  }

  /** Calls one of the functions that the script has given to {@link answer}. */
  ask<Name extends keyof Interface & string>(
    name: Name,
    input: Input<Interface[Name]>,
  ): Promise<Output<Interface[Name]>> {
    const question: Question = { id: ++this.asked, name, input };
    return new Promise((resolve, reject) => {
      this.waiting.set(question.id, { resolve, reject });
      this.process.send(question);
    });
  }

  /** Ends it as a crash does. */
  kill(): void {
    this.process.kill('SIGKILL');
  }

  /** Has the process end by itself, so that profiles are written. */
  async end(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.process.once('exit', () => resolve()));
    this.process.disconnect();
    await ended;
  }
}

/** Answers the questions of the parent process; ends with it. */
export function answer<Interface extends Calls<Interface>>(
  calls: Interface,
  end: () => Promise<void> | void = () => {},
): void {
  process.on('message', ({ id, name, input }: Question) => {
    const run = async (): Promise<void> => {
      let reply: Answer;
      try {
        const call: (input: never) => unknown = calls[name as keyof Interface];
        reply = { id, output: await call(input as never) };
      } catch (error) {
        reply = { id, error: Error.isError(error) ? (error.stack ?? error.message) : String(error) };
      }
      process.send?.(reply);
    };
    void run();
  });
  process.once('disconnect', () => {
    void Promise.resolve(end()).finally(() => process.exit(0));
  });
}
