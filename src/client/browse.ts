import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ListTasksRequestSchema,
  ListTasksResponse,
  TaskView,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import { TaskState as WireState } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { Task } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { Priority } from './messages.ts';
import { PRIORITIES, ReceivedTask, TaskProgress } from './messages.ts';

/** Where a task is. `dead`: the broker gave up on it; `finished`: how is not remembered. */
export type TaskState =
  | 'queued'
  | 'delayed'
  | 'running'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'expired'
  | 'dead'
  | 'delivered'
  | 'finished'
  | 'unknown';

const STATES: Record<Exclude<TaskState, 'unknown'>, WireState> = {
  queued: WireState.QUEUED,
  delayed: WireState.DELAYED,
  running: WireState.RUNNING,
  succeeded: WireState.SUCCEEDED,
  failed: WireState.FAILED,
  cancelled: WireState.CANCELLED,
  expired: WireState.EXPIRED,
  dead: WireState.DEAD,
  delivered: WireState.DELIVERED,
  finished: WireState.FINISHED,
};
const NAMES = new Map(Object.entries(STATES).map(([name, state]) => [state, name as TaskState]));

/** Which tasks to list. */
export interface TaskQuery {
  /** Default: all mailboxes. */
  readonly mailbox?: string;
  /** Of those that are listed: `queued`, `delayed`, `running`, `dead`. Default: all of them. */
  readonly states?: readonly Exclude<TaskState, 'unknown'>[];
  readonly type?: string;
  readonly requester?: string;
  /** Asked for at a time, at most 1000. */
  readonly pageSize?: number;
  /** With payload and all. */
  readonly includeTask?: boolean;
}

/** A task as the broker sees it. Times are Unix milliseconds; undefined: none. */
export class TaskInfo {
  readonly id: string;
  readonly mailbox: string;
  readonly state: TaskState;
  readonly type: string;
  readonly requester: string;
  readonly priority: Priority;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly acceptedAtMs: number;
  readonly notBeforeMs: number | undefined;
  readonly deadlineMs: number | undefined;
  /** Who holds it, if it runs. */
  readonly sessionId: string;
  readonly executor: string;
  /** Why the broker gave up on it, and when. */
  readonly deadReason: string;
  readonly deadError: string;
  readonly deadAtMs: number | undefined;
  readonly payloadBytes: number;
  readonly shard: number;
  readonly progress: TaskProgress | undefined;
  /** The task itself, if it was asked for. */
  readonly task: ReceivedTask | undefined;

  constructor(view: TaskView) {
    this.id = view.id;
    this.mailbox = view.mailbox;
    this.state = NAMES.get(view.state) ?? 'unknown';
    this.type = view.type;
    this.requester = view.requester;
    this.priority = PRIORITIES[view.priority - 1] ?? 'medium';
    this.attempts = view.attempts;
    this.maxAttempts = view.maxAttempts;
    this.acceptedAtMs = Number(view.acceptedAtMs);
    this.notBeforeMs = Number(view.notBeforeMs) || undefined;
    this.deadlineMs = Number(view.deadlineMs) || undefined;
    this.sessionId = view.sessionId;
    this.executor = view.executor;
    this.deadReason = view.deadReason;
    this.deadError = view.deadError;
    this.deadAtMs = Number(view.deadAtMs) || undefined;
    this.payloadBytes = view.payloadBytes;
    this.shard = view.shard;
    this.progress = view.progress && new TaskProgress(view.progress);
    this.task = view.task && receivedTask(view.task);
  }
}

/** All tasks that the query finds; the next page is asked for when the last one was read. */
export async function* browse(
  ask: (request: MessageInitShape<typeof ListTasksRequestSchema>) => Promise<ListTasksResponse>,
  query: TaskQuery,
): AsyncGenerator<TaskInfo, undefined, undefined> {
  const { states = [], ...rest } = query;
  let pageToken = '';
  do {
    const page = await ask({ ...rest, states: states.map((state) => STATES[state]), pageToken });
    for (const view of page.tasks) yield new TaskInfo(view);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
}

function receivedTask(task: Task): ReceivedTask {
  return new ReceivedTask({
    ...task,
    deadlineMs: Number(task.deadlineMs),
    notBeforeMs: Number(task.notBeforeMs),
  });
}
