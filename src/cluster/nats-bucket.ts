import type { JetStreamManager, StreamConfig, StreamInfo } from 'nats';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import { HubError } from '../std/errors.ts';

/** How the bucket of a cluster is to be. */
export interface BucketPlan {
  /** Begins its name, so that several clusters can share one NATS. */
  readonly prefix: string;
  readonly replicas: number;
  readonly storage: 'file' | 'memory';
}

const FORMAT = 'agenthub.format';
/** Another broker has just made it. */
const TAKEN = 10058;

/** The stream behind the bucket, as NATS names those of its key-value store. */
export function bucketStream(prefix: string): string {
  return `KV_${prefix}-cluster`;
}

/** What the subjects of its keys begin with. */
export function bucketSubjects(prefix: string): string {
  return `$KV.${prefix}-cluster.`;
}

/**
 * Finds or makes the bucket, which `nats kv` can look into, and gives it as many replicas as the plan says if
 * it has fewer. Reads come from its leader.
 *
 * `now` is in Unix milliseconds: the revisions of a bucket that is made anew begin above those of a former one,
 * for epochs, which are made of them, must never fall.
 *
 * @throws HubError `precondition` (it belongs to somebody else), and what NATS refuses, see {@link natsFault}.
 */
export async function openBucket(jsm: JetStreamManager, plan: BucketPlan, now: number): Promise<void> {
  const name = bucketStream(plan.prefix);
  const { config } = (await find(jsm, name)) ?? (await make(jsm, plan, now));
  if (config.metadata?.[FORMAT] !== '1') {
    throw new HubError(
      'precondition',
      `the bucket ${plan.prefix}-cluster on NATS was not made by this version of AgentHub; choose another ` +
        'nats.streamPrefix',
      { field: 'nats.streamPrefix' },
    );
  }
  if (config.num_replicas >= plan.replicas) return;
  try {
    await jsm.streams.update(name, { ...config, num_replicas: plan.replicas });
  } catch (error) {
    throw natsFault(error, `upgrading the stream ${name}`);
  }
}

async function find(jsm: JetStreamManager, name: string): Promise<StreamInfo | undefined> {
  try {
    return await jsm.streams.info(name);
  } catch (error) {
    if (apiCode(error) === API.noStream) return undefined;
    throw natsFault(error, `looking for the stream ${name}`);
  }
}

async function make(jsm: JetStreamManager, plan: BucketPlan, now: number): Promise<StreamInfo> {
  const name = bucketStream(plan.prefix);
  try {
    return await jsm.streams.add({
      name,
      subjects: [`${bucketSubjects(plan.prefix)}>`],
      storage: plan.storage as StreamConfig['storage'],
      retention: 'limits' as StreamConfig['retention'],
      discard: 'new' as StreamConfig['discard'],
      num_replicas: plan.replicas,
      max_msgs_per_subject: 1,
      max_age: 0,
      max_msgs: -1,
      max_bytes: -1,
      max_msg_size: -1,
      allow_rollup_hdrs: true,
      deny_delete: true,
      allow_direct: false,
      first_seq: Math.floor(now / 1000),
      metadata: { [FORMAT]: '1' },
    });
  } catch (error) {
    if (apiCode(error) === TAKEN) {
      const made = await find(jsm, name);
      if (made) return made;
      // Servers that have yet to agree on it know its name before they know it.
      throw new HubError('unavailable', `another broker is making the stream ${name}; try again`, {
        retryAfterMs: 1000,
      });
    }
    throw natsFault(error, `making the stream ${name}`);
  }
}
