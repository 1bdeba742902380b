import type { Clock } from '../std/clock.ts';
import type { ClusterListener } from './cluster.ts';

/** Tells a listener what has changed, in a turn of its own, each thing once however often it changed meanwhile. */
export class Notices {
  private readonly clock: Clock;
  private listener: ClusterListener | undefined;
  private assignment = false;
  private layout = false;
  private members = false;
  private readonly claims = new Set<number>();
  private readonly wants = new Map<number, string>();
  private planned = false;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** From now on that listener is told, or nobody. What was not told yet is forgotten. */
  tell(listener: ClusterListener | undefined): void {
    this.listener = listener;
    this.assignment = this.members = this.layout = false;
    this.claims.clear();
    this.wants.clear();
  }

  assignmentChanged(): void {
    this.assignment = true;
    this.plan();
  }

  layoutChanged(): void {
    this.layout = true;
    this.plan();
  }

  membersChanged(): void {
    this.members = true;
    this.plan();
  }

  claimChanged(shard: number): void {
    this.claims.add(shard);
    this.plan();
  }

  wanted(shard: number, by: string): void {
    this.wants.set(shard, by);
    this.plan();
  }

  private plan(): void {
    if (this.planned || !this.listener) return;
    this.planned = true;
    this.clock.soon(() => {
      this.planned = false;
      this.give();
    });
  }

  private give(): void {
    const { members, assignment, layout } = this;
    const claims = [...this.claims];
    const wants = [...this.wants];
    this.tell(this.listener);
    // A listener may stop the cluster, and is told nothing more then.
    if (members) this.listener?.membersChanged();
    if (layout) this.listener?.layoutChanged();
    if (assignment) this.listener?.assignmentChanged();
    for (const shard of claims) this.listener?.claimChanged(shard);
    for (const [shard, by] of wants) this.listener?.wanted(shard, by);
  }
}
