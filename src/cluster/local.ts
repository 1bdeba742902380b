import type { PlacementRules } from '../core/placement.ts';
import type { Epoch } from '../core/shard-state.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Assigned, Claim, Cluster, ClusterListener, Member } from './cluster.ts';

/** A cluster of one, with nobody to talk to: this broker owns every shard, always. */
export class LocalCluster implements Cluster {
  readonly self: string;
  private readonly clock: Clock;
  private readonly member: Member;
  private readonly claims = new Map<number, Claim>();

  constructor(member: Member, clock: Clock) {
    this.self = member.id;
    this.member = member;
    this.clock = clock;
  }

  members(): readonly Member[] {
    return [this.member];
  }

  isLive(broker: string): boolean {
    return broker === this.self;
  }

  heardSince(): number {
    return -Infinity;
  }

  vitals(): undefined {
    return undefined;
  }

  layout(): undefined {
    return undefined;
  }

  place(_rules: PlacementRules, done: (error: HubError) => void): void {
    const error = 'this broker is on its own: all mailboxes are placed here; placement needs a cluster';
    this.clock.soon(() => done(new HubError('precondition', error)));
  }

  assigned(): Assigned {
    return { broker: this.self, revision: 0 };
  }

  claim(shard: number): Claim | undefined {
    return this.claims.get(shard);
  }

  acquire(_shard: number, granted: (revision: number) => void): { cancel(): void } {
    granted(0);
    return { cancel() {} };
  }

  serve(shard: number, epoch: Epoch): void {
    this.claims.set(shard, { broker: this.self, epoch });
  }

  release(shard: number): void {
    this.claims.delete(shard);
  }

  drain(): void {}

  move(_shard: number, _broker: string, done: (error: HubError) => void): void {
    done(new HubError('precondition', 'this broker is on its own: its shards can not be moved'));
  }

  start(listener: ClusterListener, joined: (error: undefined) => void): void {
    joined(undefined);
    listener.assignmentChanged();
  }

  stop(left: () => void): void {
    this.clock.soon(left);
  }
}
