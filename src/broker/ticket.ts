import type { HubError } from '../std/errors.ts';

/** An item of a batch that was refused. */
export interface Refused {
  readonly index: number;
  readonly error: HubError;
}

/** Collects the outcomes of a batch whose items go different ways, and tells when all are there. */
export class Ticket {
  readonly refused: Refused[] = [];
  private left: number;
  private readonly settled: (ticket: Ticket) => void;

  /** `settled` is called once, when `count` outcomes have come; at once if that is none. */
  constructor(count: number, settled: (ticket: Ticket) => void) {
    this.left = count;
    this.settled = settled;
    if (count === 0) settled(this);
  }

  /** That many items are as durable as the log. */
  done(count: number): void {
    this.left -= count;
    if (this.left === 0) this.settled(this);
  }

  refuse(index: number, error: HubError): void {
    this.refused.push({ index, error });
    this.done(1);
  }
}
