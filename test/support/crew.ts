import type { BatchWorker, Delivery, Hub, Priority } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { Lease, LEASE_BYTES } from '../../src/wire/lease.ts';
import { TaskReader } from '../../src/wire/task.ts';
import type { Ledger } from './ledger.ts';
import type { SeededRandom } from './random.ts';

/** Tasks that a crew has on its way at most. */
const OPEN = 400;
const LANES: readonly Priority[] = ['low', 'high'];

/**
 * Agents that publish, work and take results for as long as they are let, in one session, and write all of
 * it into a ledger. They go on when the broker is back, however often it dies.
 */
export class Crew {
  readonly name: string;
  private readonly hub: Hub;
  private readonly ledger: Ledger;
  private readonly random: SeededRandom;
  private readonly mailboxes: readonly string[];
  private readonly tasks = new TaskReader();
  private readonly lease = new Lease();
  private next = 0;
  private onTheirWay = 0;
  private publishing = true;
  private publisher: Promise<void> = Promise.resolve();

  private constructor(name: string, hub: Hub, shared: string, ledger: Ledger, random: SeededRandom) {
    this.name = name;
    this.hub = hub;
    this.ledger = ledger;
    this.random = random;
    this.mailboxes = [`${name}-1`, `${name}-2`, shared];
  }

  /**
   * @param shared a mailbox that several crews work on.
   * @param token what the broker asks for, if anything.
   */
  static async start(
    name: string,
    address: string,
    shared: string,
    ledger: Ledger,
    random: SeededRandom,
    token?: string,
  ): Promise<Crew> {
    const hub = await connect({
      address,
      agent: name,
      publishTimeoutMs: 600_000,
      ...(token === undefined ? {} : { token }),
    });
    const crew = new Crew(name, hub, shared, ledger, random);
    await crew.attach();
    crew.publisher = crew.publish();
    return crew;
  }

  get connected(): boolean {
    return this.hub.state === 'connected';
  }

  /** Publishes nothing more; resolves when everything that was published has its answer. */
  async rest(): Promise<void> {
    this.publishing = false;
    await this.publisher;
  }

  close(): Promise<void> {
    this.publishing = false;
    return this.hub.close({ graceMs: 0 });
  }

  private async attach(): Promise<void> {
    for (const mailbox of this.mailboxes) {
      const work = (deliveries: Delivery[], worker: BatchWorker): void => {
        for (const delivery of deliveries) this.work(delivery, worker);
      };
      await this.hub.workBatch(mailbox, work, { window: 50 });
    }
    void this.takeResults();
  }

  private work(delivery: Delivery, worker: BatchWorker): void {
    const { ledger, random, tasks, lease } = this;
    const { frame, start, end, attempt } = delivery;
    const { id, payload } = tasks.read(frame, start, end);
    lease.read(frame, delivery.lease, delivery.lease + LEASE_BYTES);
    ledger.deliver(id, lease.delivery);
    const text = Buffer.from(payload).toString();
    if (text !== `do ${id}`) ledger.faults.push(`${id} carries ${text}`);
    const settle = (): void => {
      if (attempt === 1 && random.chance(0.05)) worker.fail(delivery, 'bad luck');
      else worker.complete(delivery);
    };
    if (random.chance(0.3)) setTimeout(settle, random.below(20));
    else settle();
  }

  private async takeResults(): Promise<void> {
    for await (const { taskId, outcome } of this.hub.results()) {
      if (outcome === 'succeeded') this.ledger.end(taskId);
      else this.ledger.faults.push(`${taskId} has ${outcome}`);
    }
  }

  private async publish(): Promise<void> {
    const batches = new Set<Promise<void>>();
    while (this.publishing) {
      if (this.onTheirWay < OPEN && this.ledger.open < 2 * OPEN) {
        const batch = this.publishBatch(1 + this.random.below(40)).finally(() => batches.delete(batch));
        batches.add(batch);
      }
      await new Promise((resolve) => setTimeout(resolve, this.random.below(8)));
    }
    await Promise.all(batches);
  }

  private async publishBatch(size: number): Promise<void> {
    const { random, ledger, hub } = this;
    const tasks = Array.from({ length: size }, () => {
      const id = `${this.name}-${this.next++}`;
      const to = this.mailboxes[random.below(this.mailboxes.length)]!;
      const priority = LANES[random.below(LANES.length)]!;
      ledger.publish(`${to} ${priority}`, id);
      return { id, to, type: 'chaos', priority, payload: `do ${id}` };
    });
    this.onTheirWay += size;
    const { outcomes } = await hub.publishBatch(tasks);
    this.onTheirWay -= size;
    for (const { id, error } of outcomes) {
      if (error === undefined) ledger.acknowledge(id);
      else if (error.code === 'exhausted') ledger.refuse(id);
      else ledger.faults.push(`${id} was not accepted: ${error.message}`);
    }
  }
}
