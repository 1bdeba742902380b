import type { Clock, Timer } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Want } from '../wire/cluster-documents.ts';
import { readWant, writeWant } from '../wire/cluster-documents.ts';
import type { Bus, Heard } from './bus.ts';
import type { Documents } from './documents.ts';
import type { Pulses } from './pulses.ts';

/** Between two questions to whoever serves a shard, and two reads of the assignment, in milliseconds. */
const ASK_MS = 250;

/** What a {@link Handover} works with. */
export interface HandoverOptions {
  readonly self: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly documents: Documents;
  readonly pulses: Pulses;
  readonly wanted: (shard: number, by: string) => void;
}

interface Acquisition {
  readonly shard: number;
  readonly granted: (revision: number) => void;
  /** The store is being asked. */
  reading: boolean;
  timer: Timer | undefined;
}

/**
 * How a shard goes from one live broker to the other: who is to own it asks who serves it, until that one lets
 * go, and then asks the store whether it still is to own it.
 */
export class Handover {
  private readonly options: HandoverOptions;
  private readonly acquisitions = new Set<Acquisition>();
  /** Who was said to want a shard that this broker serves. */
  private readonly told = new Map<number, string>();
  private subscription: Heard | undefined;

  constructor(options: HandoverOptions) {
    this.options = options;
  }

  start(): void {
    const { bus, self } = this.options;
    this.subscription = bus.subscribe(subject(self), (bytes) => this.asked(bytes));
  }

  stop(): void {
    this.subscription?.stop();
    for (const acquisition of this.acquisitions) this.end(acquisition);
  }

  acquire(shard: number, granted: (revision: number) => void): { cancel(): void } {
    const acquisition: Acquisition = { shard, granted, reading: false, timer: undefined };
    this.acquisitions.add(acquisition);
    this.step(acquisition);
    return { cancel: () => this.end(acquisition) };
  }

  /** The assignment is another one. */
  assignmentChanged(): void {
    const { owners } = this.options.documents.assignment;
    for (const [shard, by] of this.told) if (owners[shard] !== by) this.told.delete(shard);
    this.changed();
  }

  /** Something has changed for that shard, or for all. */
  changed(shard?: number): void {
    for (const acquisition of this.acquisitions) {
      if (shard === undefined || acquisition.shard === shard) this.step(acquisition);
    }
  }

  /** This broker serves the shard from now on, or does not any more. */
  reset(shard: number): void {
    this.told.delete(shard);
  }

  private step(acquisition: Acquisition): void {
    const { self, bus, documents, pulses } = this.options;
    const { shard } = acquisition;
    if (acquisition.reading) return;
    this.stepLater(acquisition);
    if (documents.assignment.owners[shard] !== self) return;
    const holder = this.holder(shard);
    if (holder !== undefined) {
      bus.publish(subject(holder), writeWant({ shard, by: self, revision: documents.revision }));
    } else if (pulses.complete) {
      this.read(acquisition);
    }
  }

  private stepLater(acquisition: Acquisition): void {
    acquisition.timer?.cancel();
    acquisition.timer = this.options.clock.after(ASK_MS, () => this.step(acquisition));
  }

  private read(acquisition: Acquisition): void {
    const { self, documents } = this.options;
    const { shard, granted } = acquisition;
    acquisition.reading = true;
    documents.refresh((error) => {
      acquisition.reading = false;
      if (!this.acquisitions.has(acquisition)) return;
      const { assignment, revision } = documents;
      const mine = !error && revision > 0 && assignment.owners[shard] === self;
      // Somebody else may have been faster meanwhile.
      if (!mine || this.holder(shard) !== undefined) return this.stepLater(acquisition);
      this.end(acquisition);
      granted(revision);
    });
  }

  /** The other broker that serves the shard. */
  private holder(shard: number): string | undefined {
    const broker = this.options.pulses.claim(shard)?.broker;
    return broker === this.options.self ? undefined : broker;
  }

  private end(acquisition: Acquisition): void {
    acquisition.timer?.cancel();
    this.acquisitions.delete(acquisition);
  }

  private asked(bytes: Buffer): void {
    const { logger, documents } = this.options;
    let want: Want;
    try {
      want = readWant(bytes);
    } catch (error) {
      logger.debug({ error: toHubError(error).message }, 'a want that is none was ignored');
      return;
    }
    if (want.revision <= documents.revision) return this.consider(want);
    documents.refresh((error) => {
      if (!error) this.consider(want);
    });
  }

  private consider({ shard, by }: Want): void {
    const { self, documents, pulses, wanted } = this.options;
    // The pulse that said so was lost.
    if (!pulses.serves(shard)) return pulses.tell();
    if (by === self || documents.assignment.owners[shard] !== by || this.told.get(shard) === by) return;
    this.told.set(shard, by);
    wanted(shard, by);
  }
}

function subject(broker: string): string {
  return `want.${broker}`;
}
