import type { Readable, Writable } from 'node:stream';
import pc from 'picocolors';

/** Where text is written, and whether somebody looks at it. */
export type Screen = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** How text is coloured there: not at all unless somebody looks at it and has not said NO_COLOR. */
export function colorsOf(screen: Screen): Colors {
  return pc.createColors(screen.isTTY === true && pc.isColorSupported);
}

/** Ways to colour text. */
export type Colors = ReturnType<typeof pc.createColors>;

/** What surrounds a command: its streams, its environment, its signals. */
export interface Terminal {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Screen;
  readonly stderr: Screen;
  readonly env: Readonly<Record<string, string | undefined>>;
  /**
   * Lets the caller end in good order: SIGINT and SIGTERM abort the signal instead of ending the process,
   * until it is disposed. The second one ends the process at once.
   */
  untilInterrupted(): Interruption;
}

/** A watch for signals. */
export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
}

const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

/** The surroundings of this process. */
export function terminalOf(self: NodeJS.Process): Terminal {
  const { stdin, stdout, stderr, env } = self;
  return {
    stdin,
    stdout,
    stderr,
    env,
    untilInterrupted() {
      const controller = new AbortController();
      const interrupt = (name: keyof typeof SIGNALS): void => {
        if (controller.signal.aborted) self.exit(128 + SIGNALS[name]);
        controller.abort(name);
      };
      for (const name of Object.keys(SIGNALS)) self.on(name, interrupt);
      return {
        signal: controller.signal,
        [Symbol.dispose]() {
          for (const name of Object.keys(SIGNALS)) self.off(name, interrupt);
        },
      };
    },
  };
}
