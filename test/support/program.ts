import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TaskMessage, TaskProgress, TaskResult } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import type {
  TaskMessageSchema,
  TaskProgressSchema,
  TaskResultSchema,
} from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import type { Subscription, TestBroker } from './broker.ts';
import { until } from './inbox.ts';

export type EventBusTask = MessageInitShape<typeof TaskMessageSchema>;

/** An existing program: it speaks only the event bus, with one broker. */
export class Program {
  private readonly hub: TestBroker;
  private readonly brokers: readonly TestBroker[];

  /** @param brokers all of the cluster, if there are others. */
  constructor(hub: TestBroker, brokers: readonly TestBroker[] = [hub]) {
    this.hub = hub;
    this.brokers = brokers;
  }

  publish(task: EventBusTask) {
    return this.hub.call(EventBus.method.publishTask, { task });
  }

  result(result: MessageInitShape<typeof TaskResultSchema>) {
    return this.hub.call(EventBus.method.publishTaskResult, { result });
  }

  progress(progress: MessageInitShape<typeof TaskProgressSchema>) {
    return this.hub.call(EventBus.method.publishTaskProgress, { progress });
  }

  /** Subscribes, and waits until the owner of the mailbox knows. */
  async tasks(agentId: string, taskTypes: string[] = [], options = {}): Promise<Subscription<TaskMessage>> {
    return this.opened(agentId, () =>
      this.hub.subscribe(EventBus.method.subscribeToTasks, { agentId, taskTypes }, options),
    );
  }

  async results(requesterAgentId: string, taskIds: string[] = []): Promise<Subscription<TaskResult>> {
    return this.opened(`reply:${requesterAgentId}`, () =>
      this.hub.subscribe(EventBus.method.subscribeToTaskResults, { requesterAgentId, taskIds }),
    );
  }

  async progresses(requesterAgentId: string, taskIds: string[] = []): Promise<Subscription<TaskProgress>> {
    const { sessions } = this.hub.broker;
    const before = sessions.size;
    const stream = this.hub.subscribe(EventBus.method.subscribeToTaskProgress, { requesterAgentId, taskIds });
    await until(() => sessions.size > before);
    return stream;
  }

  private async opened<T>(mailbox: string, open: () => Subscription<T>): Promise<Subscription<T>> {
    const before = this.listeners(mailbox);
    const stream = open();
    await until(() => this.listeners(mailbox) > before);
    return stream;
  }

  private listeners(mailbox: string): number {
    const owners = this.brokers.flatMap(({ broker }) => broker.ownerOf(mailbox) ?? []);
    return owners.reduce((sum, { subscriptions, state }) => {
      const id = state.mailboxes.find(mailbox);
      return sum + (id < 0 ? 0 : subscriptions.listeners(id).length);
    }, 0);
  }
}
