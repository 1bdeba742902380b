/** Entries that are kept before their memory is given back. */
const ROOM = 1024;

/** A lease that was decided. */
export interface DecidedLease {
  slot: number;
  order: number;
  /** Which delivery of the task it is. */
  delivery: number;
  session: string;
}

/**
 * Leases that were decided and are not in the log yet, oldest first. Most tasks end before their lease
 * is written, and then it need not be: the end says all.
 */
export class LeaseQueue {
  private slots: number[] = [];
  private orders: number[] = [];
  private deliveries: number[] = [];
  private sessions: string[] = [];
  private times: number[] = [];
  private head = 0;
  private readonly lease: DecidedLease = { slot: 0, order: 0, delivery: 0, session: '' };

  get size(): number {
    return this.slots.length - this.head;
  }

  /** When the oldest one was decided, or `Infinity`. */
  get oldest(): number {
    return this.times[this.head] ?? Infinity;
  }

  push(slot: number, order: number, delivery: number, session: string, at: number): void {
    this.slots.push(slot);
    this.orders.push(order);
    this.deliveries.push(delivery);
    this.sessions.push(session);
    this.times.push(at);
  }

  /** Takes out those decided not after `until`, `most` of them. The object that `visit` gets is used again. */
  take(until: number, most: number, visit: (lease: DecidedLease) => void): void {
    const { lease, times } = this;
    for (let left = most; left > 0 && this.head < times.length && times[this.head]! <= until; left--) {
      lease.slot = this.slots[this.head]!;
      lease.order = this.orders[this.head]!;
      lease.delivery = this.deliveries[this.head]!;
      lease.session = this.sessions[this.head]!;
      this.head++;
      visit(lease);
    }
    if (this.head > ROOM && this.head * 2 > times.length) this.shrink();
  }

  /** Slots of that session's leases. */
  slotsOf(session: string): number[] {
    const slots: number[] = [];
    for (let at = this.head; at < this.slots.length; at++) {
      if (this.sessions[at] === session) slots.push(this.slots[at]!);
    }
    return slots;
  }

  private shrink(): void {
    this.slots = this.slots.slice(this.head);
    this.orders = this.orders.slice(this.head);
    this.deliveries = this.deliveries.slice(this.head);
    this.sessions = this.sessions.slice(this.head);
    this.times = this.times.slice(this.head);
    this.head = 0;
  }
}
