import type { DescMessage } from '@bufbuild/protobuf';
import { create, fromBinary, ScalarType, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { qualified } from '../../../src/core/namespace.ts';
import { HubError } from '../../../src/std/errors.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { Admin, ListMailboxesResponseSchema } from '../../../src/wire/gen/agenthub/v1/admin_pb.ts';
import {
  Broker,
  GetTaskRequestSchema,
  GetTaskResponseSchema,
} from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { ResultSchema, TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { EventBus } from '../../../src/wire/gen/eventbus/eventbus_pb.ts';
import { kindOfText, Names } from '../../../src/wire/names.ts';

const acme = Names.of('acme');
const plain = Names.of('');

/**
 * Every text of every message that is neither a name nor words of the broker. A new field must be put here, or into
 * the table of `names.ts`: whoever forgets it would tell one namespace of another.
 */
const OTHER_TEXTS = `
AgentRange.prefix AgentView.session_id AgentView.client AgentView.types AgentView.peer AssignedId.id BrokerView.id
BrokerView.address BrokerView.pool BrokerView.version CancelCall.task_id CancelCall.reason CancelTaskRequest.task_id
CancelTaskRequest.reason Completed.content_type Completed.headers DescribeClusterResponse.log
DescribeClusterResponse.broker Failed.error Failed.content_type GetTaskRequest.task_id GoAway.reason GoAway.address
Hello.session_id Hello.client Attach.types ListAgentsRequest.prefix ListAgentsRequest.page_token
ListAgentsResponse.next_page_token ListMailboxesRequest.prefix ListMailboxesRequest.page_token
ListMailboxesResponse.next_page_token ListTasksRequest.type ListTasksRequest.page_token
ListTasksResponse.next_page_token LocateResponse.pool LocateResponse.broker LocateResponse.address
MoveShardRequest.broker MoveShardResponse.broker Placement.default_pool PlacementRule.pool PlacementRule.agents
PlacementRule.region PlacementRule.task_types Pool.name Progress.task_id Progress.message Progress.content_type
ProgressUpdate.message ProgressUpdate.content_type PurgeMailboxRequest.task_ids ReplayDeadLettersRequest.task_ids
Refusal.field Refusal.limit Result.task_id Result.type Result.content_type Result.headers Result.context_id
SetPlacementRequest.default_pool ShardView.owner ShardView.assigned ShardView.pool StatsResponse.broker
StatsResponse.version Task.id Task.type Task.content_type Task.headers Task.context_id TaskView.id TaskView.type
TaskView.session_id TaskView.dead_reason TaskWait.broker Welcome.session_id Welcome.broker Welcome.version
TaskMessage.task_id TaskMessage.task_type TaskMessage.requester_agent_id TaskMessage.responder_agent_id
TaskResult.task_id TaskResult.error_message TaskResult.executor_agent_id TaskProgress.task_id
TaskProgress.progress_message TaskProgress.executor_agent_id PublishResponse.error
SubscribeToTasksRequest.task_types SubscribeToTaskResultsRequest.task_ids
`;

describe('what a message says', () => {
  test('is a name, words of the broker, or known to be neither', () => {
    const unknown: string[] = [];
    const others = new Set(OTHER_TEXTS.trim().split(/\s+/));
    for (const message of messagesOf([Broker, Admin, EventBus])) {
      for (const field of message.fields) {
        const isText =
          (field.fieldKind === 'scalar' && field.scalar === ScalarType.STRING) ||
          (field.fieldKind === 'list' && field.listKind === 'scalar' && field.scalar === ScalarType.STRING) ||
          (field.fieldKind === 'map' && field.mapKind === 'scalar');
        if (!isText || kindOfText(message.typeName, field.name)) continue;
        const name = `${message.name}.${field.name}`;
        if (!others.has(name)) unknown.push(name);
      }
    }
    expect(unknown).toEqual([]);
  });

  test('comes in with names of the namespace, and goes out without', () => {
    const request = acme.entering(create(GetTaskRequestSchema, { taskId: 'a', mailbox: 'type:ocr' }));
    expect(request.mailbox).toBe(qualified('acme', 'type:ocr'));
    const answer = create(GetTaskResponseSchema, {
      task: {
        id: 'a',
        mailbox: qualified('acme', 'type:ocr'),
        requester: qualified('acme', 'planner'),
        deadError: `the mailbox ${qualified('acme', 'x')} is gone`,
        progress: { to: qualified('acme', 'type:ocr'), executor: qualified('acme', 'w') },
        task: { to: qualified('acme', 'type:ocr'), requester: qualified('acme', 'planner') },
      },
    });
    const before = toBinary(GetTaskResponseSchema, answer);
    const { task } = acme.leaving(answer);
    expect(task).toMatchObject({
      mailbox: 'type:ocr',
      requester: 'planner',
      deadError: 'the mailbox x is gone',
    });
    expect([task?.progress?.to, task?.progress?.executor]).toEqual(['type:ocr', 'w']);
    expect([task?.task?.to, task?.task?.requester]).toEqual(['type:ocr', 'planner']);
    expect(toBinary(GetTaskResponseSchema, answer)).toEqual(before);
  });

  test('must not have names that say a namespace, in none of them', () => {
    for (const names of [plain, acme, Names.of('other-one')]) {
      const mailbox = qualified('acme', 'planner');
      expect(() => names.entering(create(GetTaskRequestSchema, { mailbox }))).toThrow('mailbox');
      expect(() => names.enter(mailbox, 'mailbox')).toThrow('control characters');
    }
  });

  test('is not said at all rather than to another namespace', () => {
    const answer = create(ListMailboxesResponseSchema, {
      mailboxes: [{ mailbox: 'planner' }, { mailbox: qualified('acme', 'planner') }],
    });
    for (const names of [plain, Names.of('globex')])
      expect(() => names.leaving(answer)).toThrow('another namespace');
    expect(
      acme.leaving(create(ListMailboxesResponseSchema, { mailboxes: [answer.mailboxes[1]!] })).mailboxes,
    ).toEqual([expect.objectContaining({ mailbox: 'planner' })]);
  });
});

describe('a serialized task', () => {
  const names = fc.constantFrom('planner', 'type:ocr', 'plänner@eu', '*', 'a:b');
  const agents = fc.constantFrom('', 'planner', 'é');

  test('has names of the namespace inside of the cluster, and is what it was outside', () => {
    fc.assert(
      fc.property(names, agents, fc.string(), fc.uint8Array(), (to, requester, id, payload) => {
        const task = create(TaskSchema, { to, requester, id, payload, headers: { a: 'b' }, priority: 3 });
        const bytes = Buffer.concat([Buffer.from('xx'), toBinary(TaskSchema, task)]);
        const writer = new ByteWriter();
        acme.enterTask(bytes, 2, bytes.length, writer);
        const inside = writer.take();
        const entered = fromBinary(TaskSchema, inside);
        expect(entered.to).toBe(qualified('acme', to));
        expect(entered.requester).toBe(requester === '' ? '' : qualified('acme', requester));
        const left = fromBinary(TaskSchema, acme.leaveBody(inside, 0, inside.length, false));
        expect(left).toEqual(task);
      }),
    );
  });

  test('counts by its last name, as protobuf says', () => {
    const bytes = Buffer.concat([
      toBinary(TaskSchema, create(TaskSchema, { to: 'first' })),
      toBinary(TaskSchema, create(TaskSchema, { to: 'last' })),
    ]);
    const writer = new ByteWriter();
    acme.enterTask(bytes, 0, bytes.length, writer);
    expect(fromBinary(TaskSchema, writer.take()).to).toBe(qualified('acme', 'last'));
  });

  test.each([qualified('globex', 'planner'), qualified('acme', 'planner'), 'reply:planner', 'a\u0000'])(
    'for %j is refused',
    (to) => {
      const bytes = toBinary(TaskSchema, create(TaskSchema, { to }));
      expect(() => acme.enterTask(bytes, 0, bytes.length, new ByteWriter())).toThrow(HubError);
    },
  );
});

test('a serialized result goes out without the namespace', () => {
  const result = create(ResultSchema, {
    taskId: 'a',
    to: qualified('acme', 'type:ocr'),
    requester: qualified('acme', 'planner'),
    executor: qualified('acme', 'worker'),
    error: `${qualified('acme', 'worker')} has failed`,
    payload: Buffer.from('p'),
  });
  const bytes = toBinary(ResultSchema, result);
  const left = fromBinary(ResultSchema, acme.leaveBody(bytes, 0, bytes.length, true));
  expect(left).toMatchObject({
    taskId: 'a',
    to: 'type:ocr',
    requester: 'planner',
    executor: 'worker',
    error: 'worker has failed',
  });
});

test('an error speaks of names as they are in the namespace', () => {
  const error = new HubError('exhausted', `the mailbox ${qualified('acme', 'type:ocr')} is full`, {
    limit: 'limits.mailboxDepth',
    retryAfterMs: 1000,
  });
  expect(acme.error(error)).toMatchObject({
    message: 'the mailbox type:ocr is full',
    limit: 'limits.mailboxDepth',
    retryAfterMs: 1000,
  });
});

/** All messages that calls of these services carry, with those inside of them. */
function messagesOf(
  services: readonly { readonly methods: readonly { input: DescMessage; output: DescMessage }[] }[],
) {
  const found = new Set<DescMessage>();
  const add = (message: DescMessage): void => {
    if (found.has(message) || message.typeName.startsWith('google.')) return;
    found.add(message);
    for (const field of message.fields) {
      if (field.fieldKind === 'message') add(field.message);
      if (field.fieldKind === 'list' && field.listKind === 'message') add(field.message);
    }
  };
  for (const { methods } of services) for (const { input, output } of methods) [input, output].forEach(add);
  return found;
}
