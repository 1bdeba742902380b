import { create } from '@bufbuild/protobuf';
import { checkMailbox } from '../core/shard.ts';
import { toHubError } from '../std/errors.ts';
import {
  Broker as BrokerService,
  CancelTaskRequestSchema,
  CancelTaskResponseSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { CancelTaskRequest, CancelTaskResponse } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Done } from './question.ts';
import { questionOf } from './question.ts';
import type { Router, ShardQuestion } from './router.ts';
import type { Serving } from './tasks.ts';
import { cancelTask } from './tasks.ts';

/** Cancels tasks at whoever serves their mailboxes. */
export class Cancellations {
  private readonly shardOf: (mailbox: string) => number;
  private readonly question: ShardQuestion<CancelTaskRequest, CancelTaskResponse>;

  constructor(router: Router, broker: Serving, shardOf: (mailbox: string) => number) {
    this.shardOf = shardOf;
    this.question = router.aboutShards(
      questionOf(BrokerService.method.cancelTask),
      false,
      ({ mailbox, taskId, reason }, _shards, done) =>
        cancelTask(broker, mailbox, taskId, reason, (outcome) =>
          done(undefined, create(CancelTaskResponseSchema, { outcome })),
        ),
    );
  }

  cancel(mailbox: string, taskId: string, reason: string, done: Done<CancelOutcome>): void {
    try {
      checkMailbox(mailbox, 'mailbox');
    } catch (error) {
      return done(toHubError(error), undefined);
    }
    const request = create(CancelTaskRequestSchema, { mailbox, taskId, reason });
    this.question.ofShard(this.shardOf(mailbox), request, (error, response) =>
      error ? done(error, undefined) : done(undefined, response.outcome),
    );
  }
}
