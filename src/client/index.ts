/** The TypeScript SDK: everything that a program which talks to AgentHub may use. */
export { connect, addressFromEnv } from './connect.ts';
export type { ConnectOptions } from './connect.ts';
export type { TlsOptions } from './dial.ts';
export type { Hub, PublishOptions, RequestOptions } from './hub.ts';
export type { SessionState } from './session.ts';
export type {
  Cancellation,
  Durability,
  Payload,
  Priority,
  ReceivedTask,
  TaskInput,
  TaskOutcome,
  TaskProgress,
  TaskResult,
} from './messages.ts';
export type { BatchOutcome, PublishOutcome, TaskHandle } from './publisher.ts';
export type { TaskInfo, TaskQuery, TaskState } from './browse.ts';
export type { Handler, TaskContext, Worker, WorkOptions } from './worker.ts';
export type { BatchHandler, BatchWorker } from './batch-worker.ts';
export type { Delivery } from './delivery.ts';
export type { Listener } from './listener.ts';
export { PermanentError, RetryLater, TaskFailedError } from './failures.ts';
export { HubError } from '../std/errors.ts';
export type { ErrorCode } from '../std/errors.ts';
/** Descriptors of the services, for `hub.call`. */
export { Admin } from '../wire/gen/agenthub/v1/admin_pb.ts';
export { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
