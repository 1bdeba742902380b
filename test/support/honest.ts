import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { until } from './inbox.ts';

/** A requester and a worker who do their work as long as a test does something else. */
export class HonestClients {
  private readonly requester: Hub;
  private readonly worker: Hub;
  private readonly published = new Set<string>();
  private readonly done = new Set<string>();
  private stopped = false;
  private publishing: Promise<void> = Promise.resolve();

  static async start(address: string, token?: string): Promise<HonestClients> {
    const options = { address, ...(token === undefined ? {} : { token }) };
    const clients = new HonestClients(await connect(options), await connect(options));
    await clients.work();
    return clients;
  }

  private constructor(requester: Hub, worker: Hub) {
    this.requester = requester;
    this.worker = worker;
  }

  /** Resolves when so many more tasks were done. */
  async progress(tasks = 50): Promise<void> {
    const enough = this.done.size + tasks;
    await until(() => this.done.size >= enough);
  }

  /** Ends, and answers what was published and what of it was done. */
  async finish(): Promise<{ published: number; lost: string[] }> {
    this.stopped = true;
    await this.publishing;
    await until(() => this.done.size >= this.published.size);
    await this.requester.close();
    await this.worker.close();
    return { published: this.published.size, lost: [...this.published].filter((id) => !this.done.has(id)) };
  }

  private async work(): Promise<void> {
    await this.worker.work('honest', ({ id }) => void this.done.add(id), { concurrency: 20 });
    this.publishing = this.publish();
  }

  private async publish(): Promise<void> {
    while (!this.stopped) {
      const tasks = Array.from({ length: 10 }, () => this.requester.publish({ to: 'honest' }));
      for (const { id } of await Promise.all(tasks)) this.published.add(id);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
