import { create } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Done } from '../broker/question.ts';
import type { Scoped } from '../broker/question.ts';
import { message, scoped, scopedQuestionOf } from '../broker/question.ts';
import type { ShardQuestion } from '../broker/router.ts';
import type { Found } from '../broker/tasks.ts';
import { checkTaskId, findTaskIn, searchTasks, viewTask } from '../broker/tasks.ts';
import { waitOf } from '../broker/waits.ts';
import { checkQualified, isIn } from '../core/namespace.ts';
import type { Clock } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type {
  GetTaskRequest,
  GetTaskResponse,
  ListTasksResponse,
  TaskView,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import {
  Broker as BrokerService,
  GetTaskRequestSchema,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  TaskViewSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { CancelCall } from '../wire/gen/agenthub/v1/session_pb.ts';
import { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Rights } from '../trust/rights.ts';
import type { Admission } from './calls.ts';

/** Tasks of one id that a broker looks for, if not everybody may see the first one: who may not must not hide them. */
const NAMESAKES = 100;

/** Finds and cancels single tasks, wherever they are, for those who may. */
export class TaskFinder {
  private readonly broker: Broker;
  private readonly clock: Clock;
  private readonly first: ShardQuestion<Scoped<GetTaskRequest>, GetTaskResponse>;
  private readonly namesakes: ShardQuestion<Scoped<GetTaskRequest>, ListTasksResponse>;

  constructor(broker: Broker, clock: Clock) {
    const { router } = broker;
    this.broker = broker;
    this.clock = clock;
    this.first = router.aboutShards(
      scopedQuestionOf(BrokerService.method.getTask),
      true,
      (question, shards, done) =>
        this.findHere(question, shards, 1, ([found]) =>
          done(undefined, this.responseOf(question.request, found)),
        ),
    );
    this.namesakes = router.aboutShards(
      {
        name: 'FindTasks',
        request: scoped(message(GetTaskRequestSchema)),
        response: message(ListTasksResponseSchema),
      },
      true,
      (question, shards, done) =>
        this.findHere(question, shards, NAMESAKES, (found) => {
          const tasks = found.map((one) => this.viewOf(question.request, one));
          done(undefined, create(ListTasksResponseSchema, { tasks }));
        }),
    );
  }

  /** The task, if there is one that the caller may see. Throws HubError for what can't be, or may not be seen. */
  get(request: GetTaskRequest, admission: Admission, done: Done<GetTaskResponse>): void {
    const { mailbox } = request;
    const rights = admission.judged();
    const answered: Done<GetTaskResponse> = (error, response) => {
      if (error) return done(error, undefined);
      if (response.task) concealed(response.task, rights);
      if (response.task || mailbox === '') return done(undefined, response);
      // Whether there is one is nothing that it may know either.
      refusing(() => admission.require({ does: 'read', to: mailbox }, 'mailbox'), done, response);
    };
    this.find(request, admission, (view) => maySee(rights, view), answered);
  }

  /** Cancels the task, if the caller may: who asked for it, and who may manage its mailbox. */
  cancel(
    { mailbox, taskId, reason }: Pick<CancelCall, 'mailbox' | 'taskId' | 'reason'>,
    admission: Admission,
    done: Done<CancelOutcome>,
  ): void {
    const { broker } = this;
    const rights = admission.judged();
    if (mailbox !== '' && (!rights.limited || rights.may({ does: 'manage', to: mailbox }))) {
      return broker.cancel(mailbox, taskId, reason, done);
    }
    const request = create(GetTaskRequestSchema, { taskId, mailbox });
    const may = (view: TaskView): boolean =>
      isAskedBy(rights, view) || rights.may({ does: 'manage', to: view.mailbox }) || isKnownEnd(rights, view);
    this.find(request, admission, may, (error, response) => {
      if (error) return done(error, undefined);
      const { task } = response;
      if (task) return broker.cancel(task.mailbox, taskId, reason, done);
      if (mailbox === '' || rights.reaches(mailbox)) {
        return done(undefined, CancelOutcome.NOT_FOUND);
      }
      refusing(
        () => admission.require({ does: 'manage', to: mailbox }, 'mailbox'),
        done,
        CancelOutcome.NOT_FOUND,
      );
    });
  }

  /** A task of which that is true; of those with limited rights, all of that id are looked at. */
  private find(
    request: GetTaskRequest,
    admission: Admission,
    fits: (view: TaskView) => boolean,
    done: Done<GetTaskResponse>,
  ): void {
    const { broker } = this;
    const { namespace } = admission.names;
    const { taskId, mailbox } = request;
    try {
      checkTaskId(taskId);
      if (mailbox !== '') checkQualified(mailbox, 'mailbox');
    } catch (error) {
      return done(toHubError(error), undefined);
    }
    if (mailbox === '') return this.findAnywhere(request, admission, fits, done);
    const at = broker.mailboxOf(mailbox, taskId);
    const asked = create(GetTaskRequestSchema, { ...request, mailbox: at });
    this.first.ofShard(broker.shardOf(at), { namespace, request: asked }, (error, response) => {
      if (error) return done(error, undefined);
      const { task } = response;
      if (task) return done(undefined, fits(task) ? response : create(GetTaskResponseSchema));
      // It may not have come yet to where its mailbox lives now.
      if (broker.atlas.isUntouched) done(undefined, response);
      else this.findAnywhere(asked, admission, fits, done);
    });
  }

  private findAnywhere(
    request: GetTaskRequest,
    admission: Admission,
    fits: (view: TaskView) => boolean,
    done: Done<GetTaskResponse>,
  ): void {
    const { namespace } = admission.names;
    const nothing = create(GetTaskResponseSchema);
    if (admission.judged().limited) {
      const among = ({ tasks }: ListTasksResponse): TaskView | undefined => tasks.find(fits);
      return this.namesakes.ofAll(
        { namespace, request },
        (error, responses) => {
          if (error) return done(error, undefined);
          const task = responses.map(among).find((view) => view !== undefined);
          if (!task) return done(undefined, nothing);
          if (!request.explain) return done(undefined, create(GetTaskResponseSchema, { task }));
          const { mailbox } = task;
          const asked = create(GetTaskRequestSchema, { ...request, mailbox });
          this.first.ofShard(this.broker.shardOf(mailbox), { namespace, request: asked }, done);
        },
        (response) => among(response) !== undefined,
      );
    }
    const found = ({ task }: GetTaskResponse): boolean => task !== undefined;
    this.first.ofAll(
      { namespace, request },
      (error, responses) => {
        if (error) done(error, undefined);
        else done(undefined, responses.find(found) ?? nothing);
      },
      found,
    );
  }

  private findHere(
    { namespace, request: { taskId, mailbox } }: Scoped<GetTaskRequest>,
    shards: readonly number[],
    most: number,
    answer: (found: readonly Found[]) => void,
  ): void {
    const { broker, clock } = this;
    const owners = shards.map((shard) => broker.shards.owner(shard)!);
    if (mailbox === '') {
      const fits = (name: string): boolean => isIn(namespace, name);
      return searchTasks({ owners }, clock, { id: taskId, fits, most }, answer);
    }
    const found = findTaskIn(owners, mailbox, taskId);
    answer(found ? [found] : []);
  }

  private responseOf(request: GetTaskRequest, found: Found | undefined): GetTaskResponse {
    if (!found) return create(GetTaskResponseSchema);
    const { broker, clock } = this;
    const task = this.viewOf(request, found);
    const wait =
      request.explain && 'slot' in found ? waitOf(found.owner, found.slot, clock.now()) : undefined;
    if (wait) wait.broker = broker.id;
    return create(GetTaskResponseSchema, { task, ...(wait ? { wait } : {}) });
  }

  private viewOf({ taskId, mailbox, includeTask }: GetTaskRequest, found: Found): TaskView {
    const { broker, clock } = this;
    return create(TaskViewSchema, viewTask(broker, found, taskId, mailbox, clock.now(), includeTask));
  }
}

/** What of a task somebody may see who does not administer: not which session holds it. */
export function concealed(view: TaskView, rights: Rights): TaskView {
  if (rights.limited && !rights.may({ does: 'admin', to: 'listAgents' })) view.sessionId = '';
  return view;
}

function maySee(rights: Rights, view: TaskView): boolean {
  if (!rights.limited) return true;
  return (
    isAskedBy(rights, view) || rights.may({ does: 'read', to: view.mailbox }) || isKnownEnd(rights, view)
  );
}

function isAskedBy(rights: Rights, { requester }: TaskView): boolean {
  return requester !== '' && rights.may({ does: 'be', to: requester });
}

/** All that is known is that the id was used there, and how it ended: publishing it again would tell as much. */
function isKnownEnd(rights: Rights, { mailbox, acceptedAtMs }: TaskView): boolean {
  return acceptedAtMs === 0n && rights.reaches(mailbox);
}

function refusing<T>(check: () => void, done: Done<T>, value: T): void {
  try {
    check();
  } catch (error) {
    return done(toHubError(error), undefined);
  }
  done(undefined, value);
}
