/** What a user of NATS may do, in the words of its configuration. */
export interface NatsPermissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** What is asked of JetStream about streams of the log, and of the bucket: its name follows, and what stands here. */
const STREAM_CALLS = ['STREAM.INFO', 'STREAM.CREATE', 'STREAM.UPDATE', 'STREAM.PURGE', 'STREAM.MSG.GET'];

/**
 * All that the brokers of a cluster need in NATS, and no more: its subjects, streams, bucket and inboxes.
 *
 * @param prefix `nats.streamPrefix`
 * @param shards of all its pools together; absent: every stream of the account, where there are no others. There is no
 *   pattern for names that only begin alike.
 */
export function natsPermissions(prefix: string, shards?: number): NatsPermissions {
  const log =
    shards === undefined ? ['*'] : Array.from({ length: shards }, (_, shard) => `${prefix}-${shard}`);
  const streams = shards === undefined ? log : [...log, `KV_${prefix}-cluster`];
  return {
    publish: [
      // Tasks and decisions, by shard; what brokers tell each other; the documents of the cluster.
      `${prefix}.q.*`,
      `${prefix}.o.*`,
      `${prefix}.b.>`,
      `$KV.${prefix}-cluster.>`,
      ...streams.flatMap((stream) => [
        ...STREAM_CALLS.map((call) => `$JS.API.${call}.${stream}`),
        `$JS.API.CONSUMER.CREATE.${stream}`,
        `$JS.API.CONSUMER.CREATE.${stream}.>`,
        `$JS.API.CONSUMER.DELETE.${stream}.*`,
        // Answers of readers that are asked whether they keep up.
        `$JS.FC.${stream}.>`,
      ]),
    ],
    subscribe: [`${prefix}.b.>`, `_INBOX.${prefix}.>`],
  };
}

/** The same as text for the configuration of a server: the value of `permissions`. */
export function natsPermissionsText({ publish, subscribe }: NatsPermissions, indent = ''): string {
  const list = (subjects: readonly string[]): string =>
    subjects.map((subject) => `${indent}    ${JSON.stringify(subject)}\n`).join('');
  return `{\n${indent}  publish: [\n${list(publish)}${indent}  ]\n${indent}  subscribe: [\n${list(subscribe)}${indent}  ]\n${indent}}`;
}
