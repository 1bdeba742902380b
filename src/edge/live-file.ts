import { readFile } from 'node:fs/promises';
import { readText } from '../config/read-text.ts';
import type { Clock, Timer } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';

/** Time between two looks at a file, in milliseconds. Kubernetes itself takes up to a minute to change one. */
const LOOK_MS = 1000;

/** What a {@link LiveFile} is made of. */
export interface LiveFileOptions<T> {
  readonly path: string;
  /** How messages call it: `auth.tokensFile: the file a`. */
  readonly what: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the text says; throws HubError if it can't be taken. */
  readonly read: (text: string) => T;
  /** Hears what became of each change: the new value is in force, or the former one stays, because of the error. */
  readonly changed?: (error: Error | undefined) => void;
}

/**
 * A file whose content is in force, and stays so when it is changed.
 *
 * It is read again and again instead of watched: volumes of Kubernetes replace links, networks tell nothing of
 * changes. A text that can't be taken is logged, and the former one stays in force.
 */
export class LiveFile<T> {
  /** What the file says. */
  value: T;
  private readonly options: LiveFileOptions<T>;
  private text: string;
  private timer: Timer | undefined;
  private closed = false;

  /** Reads it for the first time. Throws HubError `invalid` if it can't be read or taken. */
  constructor(options: LiveFileOptions<T>) {
    this.options = options;
    this.text = readText(options.path, options.what);
    this.value = options.read(this.text);
    this.schedule();
  }

  /** Looks no more. */
  close(): void {
    this.closed = true;
    this.timer?.cancel();
  }

  private schedule(): void {
    if (this.closed) return;
    this.timer = this.options.clock.after(LOOK_MS, () => void this.look().then(() => this.schedule()));
  }

  private async look(): Promise<void> {
    const { path, what, read, logger, changed } = this.options;
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch {
      // It is about to be replaced, or was taken away: what it said stays in force.
      return;
    }
    if (this.closed || text === this.text) return;
    this.text = text;
    try {
      this.value = read(text);
      logger.info({ path }, `${what} has changed, and is in force`);
      changed?.(undefined);
    } catch (error) {
      const { message } = toHubError(error);
      logger.error(
        { path, error: message },
        `${what} has changed, and can't be taken; what it said before stays`,
      );
      changed?.(toHubError(error));
    }
  }
}
