import type { IncomingMessage } from 'node:http';
import type { KubeObject } from '../api/object.ts';
import type { Asked, Status } from './errors.ts';
import { KubeError, refusal } from './errors.ts';
import type { WatchHandler } from './kube.ts';
import { networkError, parse } from './transport.ts';

const NEWLINE = 0x0a;

interface WatchEvent<T> {
  readonly type: string;
  readonly object: T;
}

/** Turns the lines of a watch into calls of its handler. */
export class WatchStream<T extends KubeObject> {
  readonly #handler: WatchHandler<T>;
  readonly #asked: Asked;
  /** What came of a line that has not ended yet. */
  #rest: Buffer[] = [];
  #response: IncomingMessage | undefined;
  #closed = false;

  constructor(handler: WatchHandler<T>, asked: Asked) {
    this.#handler = handler;
    this.#asked = asked;
  }

  /** Begins to read. */
  read(response: IncomingMessage): void {
    if (this.#closed) {
      response.destroy();
      return;
    }
    this.#response = response;
    response.on('data', (chunk: Buffer) => this.#take(chunk));
    response.on('end', () => this.end());
    response.on('error', (error) => this.end(error));
    response.on('close', () => this.end(new Error('the watch was cut')));
    this.#handler.opened();
  }

  /** Tells the handler that this was all, unless it was closed. */
  end(error?: unknown): void {
    if (this.#closed) return;
    this.close();
    this.#handler.ended(error === undefined ? undefined : networkError(error, this.#asked));
  }

  /** Ends it without a word. */
  close(): void {
    this.#closed = true;
    this.#rest = [];
    this.#response?.destroy();
  }

  #take(chunk: Buffer): void {
    if (this.#closed) return;
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...this.#rest, chunk.subarray(from, at)]).toString('utf8');
      this.#rest = [];
      from = at + 1;
      if (line.trim() !== '') this.#say(line);
      if (this.#closed) return;
    }
    if (from < chunk.length) this.#rest.push(chunk.subarray(from));
  }

  #say(line: string): void {
    try {
      this.#tell(parse(line, this.#asked) as WatchEvent<T>);
    } catch (error) {
      // Whatever it was: the watch is begun anew, and all that is followed here goes on.
      const { resource } = this.#asked;
      const message = `an event of ${resource} could not be taken in: ${(error as Error).message}`;
      this.end(new KubeError('internal', message, { cause: error }));
    }
  }

  #tell({ type, object }: WatchEvent<T>): void {
    switch (type) {
      case 'ADDED':
        return this.#handler.added(object);
      case 'MODIFIED':
        return this.#handler.modified(object);
      case 'DELETED':
        return this.#handler.deleted(object);
      case 'BOOKMARK':
        return this.#handler.bookmark(object.metadata.resourceVersion ?? '');
      case 'ERROR': {
        const status = object as unknown as Status;
        return this.end(refusal(this.#asked, status.code ?? 500, status));
      }
      default: // A later kind of event; what matters comes as one of the above, too.
    }
  }
}
