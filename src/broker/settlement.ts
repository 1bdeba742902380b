import { textOf } from '../wire/bytes.ts';
import type { SettlementScan } from '../wire/client-frame.ts';
import { Verdict } from '../wire/client-frame.ts';
import type { Lease } from '../wire/lease.ts';
import type { ResultPayload } from '../wire/result.ts';
import type { Owner } from './owner.ts';

/**
 * Settles a lease as its holder says in `bytes`, between `Owner.settling` and `Owner.settled`.
 *
 * @throws HubError `precondition` if it is too late.
 */
export function settle(
  owner: Owner,
  session: string,
  lease: Lease,
  scan: SettlementScan,
  bytes: Uint8Array,
): void {
  if (scan.verdict === Verdict.completed) return owner.complete(lease, session, answerIn(bytes, scan));
  if (scan.verdict !== Verdict.failed) return owner.giveBack(lease, session);
  const { retryable, retryAfterMs } = scan;
  const error = textOf(bytes, scan.errorStart, scan.errorEnd);
  owner.fail(lease, session, { error, retryable, retryAfterMs, payload: answerIn(bytes, scan) });
}

function answerIn(bytes: Uint8Array, scan: SettlementScan): ResultPayload {
  const { payloadStart, payloadEnd, contentTypeStart, contentTypeEnd, headers } = scan;
  return { bytes, payloadStart, payloadEnd, contentTypeStart, contentTypeEnd, headers };
}
