import { MultiBar } from 'cli-progress';

/** Shows how far several pieces of work are. */
export interface Bars {
  /** A piece of work of so many steps. */
  add(name: string, total: number): Bar;
  stop(): void;
}

/** How far one of them is. */
export interface Bar {
  /** Another step is done. */
  step(note: string): void;
  /** What happens now. */
  note(note: string): void;
}

/** Moving bars on a terminal; on anything else a line now and then, so that logs stay readable. */
export function createBars(stream: NodeJS.WriteStream): Bars {
  return stream.isTTY ? terminalBars(stream) : lines(stream);
}

function terminalBars(stream: NodeJS.WriteStream): Bars {
  const bars = new MultiBar({
    format: '  {name} [{bar}] {value}/{total}  {note}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    stream,
  });
  return {
    add(name, total) {
      const bar = bars.create(total, 0, { name: name.padEnd(10), note: '' });
      return {
        step: (note) => bar.increment(1, { note }),
        note: (note) => bar.update({ note }),
      };
    },
    stop: () => bars.stop(),
  };
}

function lines(stream: NodeJS.WritableStream): Bars {
  return {
    add(name, total) {
      const every = Math.ceil(total / 4);
      let done = 0;
      return {
        step() {
          done++;
          if (done % every === 0 || done === total) stream.write(`  ${name}: ${done} of ${total}\n`);
        },
        note() {},
      };
    },
    stop() {},
  };
}
