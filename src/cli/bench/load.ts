import type { BatchWorker, Delivery, Hub } from '../../client/index.ts';
import { PRIORITIES } from '../../client/messages.ts';
import { replyMailbox } from '../../core/shard.ts';
import type { Clock } from '../../std/clock.ts';
import { Scanner } from '../../wire/scanner.ts';
import { Ledger } from './ledger.ts';
import type { BenchPlan } from './plan.ts';
import { due, dueAt } from './plan.ts';
import { readStamp, STAMP_BYTES, writeStamp } from './stamp.ts';
import type { Timeline } from './timeline.ts';
import type { Timings } from './timings.ts';

/** Names the task type of benchmarks. */
const TYPE = 'bench';
/** Batches that a publisher has on their way, if the rate is 0. */
const PIPELINE = 4;
/** How often publishers look what is due. */
const PACE_MS = 1;
const RESULT_PAYLOAD = 7;
const TASK_PAYLOAD = 14;
/** Results come in crowds, and are taken at once. */
const RESULT_WINDOW = 4096;

/** What a load is made with. */
export interface LoadParts {
  readonly plan: BenchPlan;
  /** Makes mailboxes of this load its own. */
  readonly run: string;
  readonly hubs: readonly Hub[];
  readonly clock: Clock;
  readonly timings: Timings;
  readonly timeline: Timeline;
}

/**
 * Publishers and agents that keep a broker busy.
 *
 * With a rate, the load is open: tasks are due at moments that do not depend on how fast the broker
 * answers, and all times count from when a task was due, so a broker that stalls can't hide it
 * (https://www.scylladb.com/2021/04/22/on-coordinated-omission/). With rate 0 it is closed: a publisher
 * goes on when fewer than `unfinished` tasks are on their way, and times count from the publish.
 */
export class Load {
  readonly ledger: Ledger;
  private readonly parts: LoadParts;
  private readonly sent: number[];
  private readonly scanner = new Scanner();
  private readonly workers: BatchWorker[] = [];
  private room: (() => void)[] = [];
  private begun = 0;
  /** Tasks that had ended when the warm-up was over. */
  private warm = 0;
  private stopped = false;
  /** Tasks that ended after the warm-up, while there was load. */
  measured = 0;

  constructor(parts: LoadParts) {
    const { publishers, agents, results, mixedPriorities } = parts.plan;
    this.parts = parts;
    this.ledger = new Ledger(publishers, agents, results, mixedPriorities ? PRIORITIES.length : 1);
    this.sent = Array.from({ length: publishers }, () => 0);
  }

  /** Attaches the agents, and the publishers to their results. */
  async attach(): Promise<void> {
    const { plan, run, hubs } = this.parts;
    const attached: Promise<BatchWorker>[] = [];
    for (let agent = 0; agent < plan.agents; agent++) {
      const work = (deliveries: Delivery[], worker: BatchWorker): void =>
        this.work(agent, deliveries, worker);
      const options = { window: plan.window, agent: `${run}-agent-${agent}` };
      attached.push(hubOf(hubs, agent).workBatch(this.mailbox(agent), work, options));
    }
    if (plan.results) {
      for (const [session, hub] of hubs.entries()) {
        const take = (deliveries: Delivery[], worker: BatchWorker): void => this.take(deliveries, worker);
        attached.push(hub.workBatch(replyMailbox(this.requester(session)), take, { window: RESULT_WINDOW }));
      }
    }
    this.workers.push(...(await Promise.all(attached)));
  }

  /** Publishes until the plan's time is over, then waits for what is on its way. */
  async go(): Promise<void> {
    const { plan, clock } = this.parts;
    this.begun = clock.now();
    const length = plan.warmupMs + plan.durationMs;
    clock.after(plan.warmupMs, () => {
      this.parts.timings.begin();
      this.warm = this.ledger.ended;
    });
    const timer = clock.after(length, () => this.stop());
    const lanes = Array.from({ length: plan.publishers }, (_, publisher) =>
      plan.rate > 0 ? this.paced(publisher, length) : this.saturated(publisher),
    );
    await Promise.all(lanes);
    timer.cancel();
    await this.rest();
  }

  /** Publishes nothing more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.parts.timings.end();
    this.measured = this.ledger.ended - this.warm;
    this.makeRoom();
  }

  /** Takes no tasks any more. */
  async detach(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.close()));
  }

  // ── Publishers ───────────────────────────────────────────────────────────────────────────────

  private paced(publisher: number, length: number): Promise<void> {
    const { plan, clock } = this.parts;
    const pending = new Set<Promise<void>>();
    return new Promise((resolve) => {
      const tick = (): void => {
        const now = Math.min(clock.now() - this.begun, length);
        for (let left = due(plan, publisher, now) - this.sent[publisher]!; left > 0; left -= plan.batch) {
          const batch = this.publish(publisher, Math.min(left, plan.batch)).finally(() =>
            pending.delete(batch),
          );
          pending.add(batch);
        }
        if (this.stopped) void Promise.all(pending).then(() => resolve());
        else clock.after(PACE_MS, tick);
      };
      tick();
    });
  }

  private async saturated(publisher: number): Promise<void> {
    const { plan } = this.parts;
    const lane = async (): Promise<void> => {
      while (!this.stopped) {
        if (this.ledger.open >= plan.unfinished)
          await new Promise<void>((resolve) => this.room.push(resolve));
        else await this.publish(publisher, plan.batch);
      }
    };
    await Promise.all(Array.from({ length: PIPELINE }, lane));
  }

  private async publish(publisher: number, tasks: number): Promise<void> {
    const { plan, hubs, clock, timings } = this.parts;
    const first = this.sent[publisher]!;
    this.sent[publisher] = first + tasks;
    this.ledger.send(tasks);
    const now = clock.now();
    const requester = plan.results ? this.requester(publisher % hubs.length) : '';
    const sizes = plan.payloadBytes;
    const inputs = Array.from({ length: tasks }, (_, index) => {
      const number = first + index;
      const payload = Buffer.alloc(sizes[number % sizes.length]!);
      const dueMs = plan.rate > 0 ? this.begun + dueAt(plan, publisher, number) : now;
      writeStamp(payload, publisher, number, dueMs);
      const task = { to: this.mailbox(publisher + number), type: TYPE, requester, payload };
      if (!plan.mixedPriorities) return task;
      return { ...task, priority: PRIORITIES[number % PRIORITIES.length]! };
    });
    const { outcomes } = await hubOf(hubs, publisher).publishBatch(inputs);
    const acked = clock.now();
    for (const [index, input] of inputs.entries()) {
      const number = first + index;
      const error = outcomes[index]?.error;
      if (error === undefined) {
        this.ledger.accept(publisher, number);
        timings.acknowledged(acked, readStamp(input.payload, 0).dueMs);
      } else if (error.code === 'exhausted' || error.code === 'invalid')
        this.ledger.refuse(publisher, number);
      else this.ledger.doubt(publisher, number);
    }
  }

  private makeRoom(): void {
    const { room } = this;
    this.room = [];
    for (const go of room) go();
  }

  /** Resolves when nothing is on its way any more, or it has taken too long. */
  private rest(): Promise<void> {
    const { plan, clock } = this.parts;
    const giveUpAt = clock.now() + plan.settleMs;
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.ledger.open === 0 || clock.now() > giveUpAt) resolve();
        else clock.after(20, look);
      };
      look();
    });
  }

  // ── Agents ───────────────────────────────────────────────────────────────────────────────────

  private work(agent: number, deliveries: readonly Delivery[], worker: BatchWorker): void {
    const { plan, clock, timings, timeline } = this.parts;
    const now = clock.now();
    for (const delivery of deliveries) {
      const { frame, start, end } = delivery;
      const at = this.find(TASK_PAYLOAD, frame, start, end);
      const { publisher, number, dueMs } = readStamp(frame, at);
      this.ledger.deliver(publisher, number, agent);
      timings.delivered(now, dueMs);
      if (!plan.results) {
        timeline.note(now, dueMs);
        continue;
      }
      const payload = frame.subarray(at, at + STAMP_BYTES);
      worker.complete(delivery, { payload, contentType: '', headers: undefined });
    }
    if (!plan.results) {
      worker.settleAll(deliveries);
      this.makeRoom();
    }
  }

  private take(deliveries: readonly Delivery[], worker: BatchWorker): void {
    const { clock, timings, timeline } = this.parts;
    const now = clock.now();
    for (const { frame, start, end } of deliveries) {
      const { publisher, number, dueMs } = readStamp(frame, this.find(RESULT_PAYLOAD, frame, start, end));
      this.ledger.complete(publisher, number);
      timings.completed(now, dueMs);
      timeline.note(now, dueMs);
    }
    worker.settleAll(deliveries);
    this.makeRoom();
  }

  /** Where a field of a message begins. */
  private find(field: number, frame: Uint8Array, start: number, end: number): number {
    const { scanner } = this;
    scanner.open(frame, start, end);
    while (scanner.next() && scanner.field !== field);
    return scanner.start;
  }

  private mailbox(number: number): string {
    return `${this.parts.run}-mailbox-${number % this.parts.plan.mailboxes}`;
  }

  private requester(session: number): string {
    return `${this.parts.run}-publisher-${session}`;
  }
}

function hubOf(hubs: readonly Hub[], number: number): Hub {
  return hubs[number % hubs.length]!;
}
