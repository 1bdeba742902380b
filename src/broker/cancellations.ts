import { create } from '@bufbuild/protobuf';
import { checkQualified } from '../core/namespace.ts';
import { toHubError } from '../std/errors.ts';
import {
  Broker as BrokerService,
  CancelTaskRequestSchema,
  CancelTaskResponseSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { CancelTaskRequest, CancelTaskResponse } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Owner } from './owner.ts';
import type { Done } from './question.ts';
import { questionOf } from './question.ts';
import type { Router, ShardQuestion } from './router.ts';
import { cancelFound, findTaskIn } from './tasks.ts';

/** What cancellations need to know of the broker. */
export interface Placed {
  readonly atlas: { readonly isUntouched: boolean };
  readonly shards: { owner(shard: number): Owner | undefined };
  mailboxOf(mailbox: string, id: string): string;
  shardOf(mailbox: string): number;
}

/** Cancels tasks at whoever serves their mailboxes. */
export class Cancellations {
  private readonly broker: Placed;
  private readonly question: ShardQuestion<CancelTaskRequest, CancelTaskResponse>;

  constructor(router: Router, broker: Placed) {
    this.broker = broker;
    this.question = router.aboutShards(
      questionOf(BrokerService.method.cancelTask),
      false,
      ({ mailbox, taskId, reason }, shards, done) => {
        const owners = shards.map((shard) => broker.shards.owner(shard)!);
        cancelFound(findTaskIn(owners, mailbox, taskId), reason, (outcome) =>
          done(undefined, create(CancelTaskResponseSchema, { outcome })),
        );
      },
    );
  }

  cancel(mailbox: string, taskId: string, reason: string, done: Done<CancelOutcome>): void {
    try {
      checkQualified(mailbox, 'mailbox');
    } catch (error) {
      return done(toHubError(error), undefined);
    }
    const { broker, question } = this;
    const at = broker.mailboxOf(mailbox, taskId);
    const request = create(CancelTaskRequestSchema, { mailbox: at, taskId, reason });
    const knows = ({ outcome }: CancelTaskResponse): boolean => outcome !== CancelOutcome.NOT_FOUND;
    question.ofShard(broker.shardOf(at), request, (error, response) => {
      if (error) return done(error, undefined);
      if (knows(response) || broker.atlas.isUntouched) return done(undefined, response.outcome);
      // It may not have come yet to where its mailbox lives now.
      question.ofAll(
        request,
        (unasked, responses) => {
          if (unasked) done(unasked, undefined);
          else done(undefined, responses.find(knows)?.outcome ?? CancelOutcome.NOT_FOUND);
        },
        knows,
      );
    });
  }
}
