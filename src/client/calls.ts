import { checkMailbox } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import { encodeFrame } from '../wire/client-frame.ts';
import type { CancelAnswer } from '../wire/gen/agenthub/v1/session_pb.ts';
import { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import { errorOfRefusal } from '../wire/status.ts';
import type { Cancellation } from './messages.ts';
import { cancellationOf } from './messages.ts';
import type { Outbox } from './outbox.ts';

interface Call {
  readonly part: Buffer;
  readonly resolve: (outcome: Cancellation) => void;
  readonly reject: (error: HubError) => void;
}

/** Cancellations that wait for their answer; asked again on every new connection until then. */
export class CancelCalls {
  private readonly outbox: Outbox;
  private readonly calls = new Map<bigint, Call>();
  private last = 0n;

  constructor(outbox: Outbox) {
    this.outbox = outbox;
  }

  /** Cancels a task. Rejects with HubError `invalid` if that is no mailbox. */
  async cancel(mailbox: string, taskId: string, reason: string): Promise<Cancellation> {
    checkMailbox(mailbox, 'mailbox');
    const call = ++this.last;
    const part = encodeFrame({ cancel: [{ call, mailbox, taskId, reason }] });
    return new Promise((resolve, reject) => {
      this.calls.set(call, { part, resolve, reject });
      this.outbox.say(part);
    });
  }

  answered({ call, outcome, refusal }: CancelAnswer): void {
    const waiting = this.calls.get(call);
    this.calls.delete(call);
    if (outcome !== CancelOutcome.UNSPECIFIED) waiting?.resolve(cancellationOf(outcome));
    else if (refusal) waiting?.reject(errorOfRefusal(refusal));
    else waiting?.reject(new HubError('internal', 'the broker could not cancel the task; its log says why'));
  }

  welcomed(): void {
    for (const { part } of this.calls.values()) this.outbox.say(part);
  }

  over(error: HubError): void {
    for (const { reject } of this.calls.values()) reject(error);
    this.calls.clear();
  }
}
