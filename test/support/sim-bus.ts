import type { Bus, Heard } from '../../src/cluster/bus.ts';
import type { Clock } from '../../src/std/clock.ts';
import type { SeededRandom } from './random.ts';

interface Message {
  readonly subject: string;
  readonly bytes: Buffer;
}

/** The messages between brokers: late, lost, or cut off when a test says so, but always in order. */
export class SimBus {
  /** How long the next message takes, in milliseconds. */
  delayMs: () => number;
  /** The probability that a message is lost. */
  loss = 0;
  /** Sees every message when it is sent. */
  sent: (from: string, subject: string, bytes: Buffer) => void = () => {};
  readonly #random: SeededRandom;
  readonly #ends = new Map<string, SimBusEnd>();
  /** Ways that nothing goes, as `from>to`. */
  readonly #cuts = new Set<string>();

  constructor(random: SeededRandom, delayMs: () => number = () => 0.2 + random.float()) {
    this.#random = random;
    this.delayMs = delayMs;
  }

  /** The bus as one process sees it, which begins now and ends with its clock. A former one of that name is gone. */
  end(broker: string, clock: Clock): SimBusEnd {
    const end = new SimBusEnd(this, broker, clock);
    this.#ends.set(broker, end);
    return end;
  }

  /** That process is gone. */
  leave(broker: string): void {
    this.#ends.get(broker)?.connect(false);
    this.#ends.delete(broker);
  }

  /** From now on nothing goes from the one to the other; and not back, unless it is said otherwise. */
  cut(from: string, to: string, { back = true } = {}): void {
    this.#cuts.add(`${from}>${to}`);
    if (back) this.#cuts.add(`${to}>${from}`);
  }

  /** From now on that broker hears only itself, and nobody else hears it. */
  isolate(broker: string): void {
    for (const other of this.#ends.keys()) if (other !== broker) this.cut(broker, other);
  }

  /** Everything goes everywhere again. */
  heal(): void {
    this.#cuts.clear();
  }

  /** @internal For ends only. */
  send(from: SimBusEnd, message: Message): void {
    this.sent(from.broker, message.subject, message.bytes);
    for (const to of this.#ends.values()) {
      if (!this.#random.chance(this.loss)) to.coming(from.broker, message, this.delayMs());
    }
  }

  /** @internal For ends only. */
  open(from: string, to: string): boolean {
    return !this.#cuts.has(`${from}>${to}`);
  }
}

/** What one process sees of a {@link SimBus}. */
export class SimBusEnd implements Bus {
  connected = true;
  readonly broker: string;
  readonly #bus: SimBus;
  readonly #clock: Clock;
  readonly #subscriptions = new Set<{ subject: string; heard: (bytes: Buffer) => void }>();
  readonly #watchers: ((connected: boolean) => void)[] = [];
  /** What is under way, by sender. */
  readonly #coming = new Map<string, Message[]>();
  readonly #last = new Map<string, number>();

  constructor(bus: SimBus, broker: string, clock: Clock) {
    this.#bus = bus;
    this.broker = broker;
    this.#clock = clock;
  }

  publish(subject: string, bytes: Uint8Array): void {
    if (this.connected) this.#bus.send(this, { subject, bytes: Buffer.from(bytes) });
  }

  subscribe(subject: string, heard: (bytes: Buffer) => void): Heard {
    const subscription = { subject, heard };
    this.#subscriptions.add(subscription);
    return { stop: () => void this.#subscriptions.delete(subscription) };
  }

  watch(watcher: (connected: boolean) => void): void {
    this.#watchers.push(watcher);
  }

  /** Its connection breaks, or is back. What was under way to it is lost. */
  connect(connected: boolean): void {
    if (connected === this.connected) return;
    this.connected = connected;
    this.#coming.clear();
    this.#clock.soon(() => {
      if (this.connected === connected) for (const watcher of this.#watchers) watcher(connected);
    });
  }

  /** @internal For the bus only. */
  coming(from: string, message: Message, delayMs: number): void {
    if (!this.connected || !this.#bus.open(from, this.broker)) return;
    const now = this.#clock.now();
    const at = Math.max(now + delayMs, this.#last.get(from) ?? 0);
    this.#last.set(from, at);
    const queue = this.#coming.get(from) ?? [];
    this.#coming.set(from, queue);
    queue.push(message);
    // Timers that are due together run in any order; what they give is in order nevertheless.
    this.#clock.after(at - now, () => {
      if (this.#coming.get(from) !== queue) return;
      const first = queue.shift();
      if (first && this.#bus.open(from, this.broker)) this.#give(first);
    });
  }

  #give({ subject, bytes }: Message): void {
    for (const subscription of [...this.#subscriptions]) {
      if (subscription.subject === subject && this.#subscriptions.has(subscription)) {
        subscription.heard(Buffer.from(bytes));
      }
    }
  }
}
