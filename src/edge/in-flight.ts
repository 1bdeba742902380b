/** Heartbeats in a row that may disagree: what is on its way explains one, not two. */
const MISMATCHES = 2;

/**
 * The leases that a session holds, as a count and a hash: enough to notice that the client and the broker
 * disagree, see `Heartbeat` in `session.proto`.
 */
export class InFlight {
  count = 0;
  private bits = 0;
  private mismatches = 0;

  /** Of all leases: their hashes, combined by exclusive or. */
  get hash(): number {
    return this.bits >>> 0;
  }

  add(hash: number): void {
    this.count++;
    this.bits ^= hash;
  }

  remove(hash: number): void {
    this.count--;
    this.bits ^= hash;
  }

  /** Compares with what the client says; true if it is to be asked for its list. */
  disagrees(count: number, hash: number): boolean {
    this.mismatches = count === this.count && hash === this.hash ? 0 : this.mismatches + 1;
    if (this.mismatches < MISMATCHES) return false;
    this.mismatches = 0;
    return true;
  }
}
