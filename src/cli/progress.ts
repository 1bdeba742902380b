import { SingleBar } from 'cli-progress';
import type { Screen } from './terminal.ts';

/** Shows on a terminal how far long work is; elsewhere nothing. */
export class Progress implements Disposable {
  private readonly bar: SingleBar | undefined;

  /** @param what stands before the bar */
  constructor(screen: Screen, what: string, total: number) {
    if (screen.isTTY !== true) return;
    const format = `${what} {bar} {percentage} %  {note}`;
    this.bar = new SingleBar({
      format,
      stream: screen,
      hideCursor: true,
      clearOnComplete: true,
      barsize: 30,
    });
    this.bar.start(total, 0, { note: '' });
  }

  update(value: number, note: string): void {
    this.bar?.update(value, { note });
  }

  [Symbol.dispose](): void {
    this.bar?.stop();
  }
}
