import { z } from 'zod';
import { HubError } from '../std/errors.ts';

const count = z.int().nonnegative();
const amount = z.number().nonnegative();
const share = z.number().min(0).max(1);

const shard = {
  shard: count.describe('Number of the shard.'),
  queued: count.describe('Tasks in its mailboxes that have not ended.'),
  outbox: count
    .optional()
    .describe('Results, and tasks that live elsewhere now, on their way from it to other shards.'),
  bytes: count.describe('Bytes of these tasks.'),
  tasksPerSecond: amount.describe('Tasks accepted for it per second, averaged over about 10 s.'),
};

const broker = {
  broker: z.string().min(1).describe('Which broker this is; a restarted one is another.'),
  version: z.string().describe('Version of the broker.'),
  time: z
    .int()
    .positive()
    .describe('When this was true, by the wall clock of the broker: ms since the Unix epoch.'),
  activeAgents: count.describe('Agents that are connected.'),
  activeTasks: count.describe('Tasks that workers hold now.'),
  tasksPerSecond: amount.describe('Tasks accepted per second, averaged over about 10 s, like all rates.'),
  resultsPerSecond: amount.describe('Results accepted per second.'),
  progressPerSecond: amount.describe('Progress reports accepted per second.'),
  messagesPerSecond: amount.describe('All of these together.'),
  cpu: amount.describe('CPU cores in use.'),
  memory: count.describe('Resident bytes of the process.'),
  memoryHighWater: count.describe('Resident bytes above which publishes are refused.'),
  eventLoopUtilization: share.describe('Share of time that the event loop is busy.'),
  openConnections: count.describe('Open gRPC connections.'),
  backlog: count.describe('Tasks that wait although a worker of their mailbox has free credit.'),
  oldestTaskAgeSeconds: amount.describe(
    'How long the task that waits longest has been waiting; 0 if none waits.',
  ),
  draining: z.boolean().describe('Whether the broker is being emptied before it stops.'),
  loadScore: share.describe('How busy the broker is, all in all: 0 idle, 1 full.'),
  natsUser: z
    .string()
    .optional()
    .describe(
      'As whom it is logged in to NATS on all its connections: the public key of an nkey, or the name of the user.',
    ),
};

const Strict = z.strictObject({ ...broker, shards: z.array(z.strictObject(shard)) });
/** Drops what it doesn't know: the writer may be newer. */
const Tolerant = z.object({ ...broker, shards: z.array(z.object(shard)) });

/** What a broker says of its load at `GET /capacity`, for autoscalers and for brokers that balance sessions. */
export type Capacity = Readonly<z.output<typeof Strict>>;

/**
 * The document as JSON.
 *
 * @throws HubError `internal` if it isn't one: a member is missing, unknown, or out of its range.
 */
export function writeCapacity(capacity: Capacity): string {
  const result = Strict.safeParse(capacity);
  if (result.success) return JSON.stringify(result.data);
  throw new HubError('internal', `the capacity document is wrong: ${faults(result.error)}`);
}

/**
 * Reads what {@link writeCapacity} wrote, here or in another version; unknown members are dropped.
 *
 * @throws HubError `invalid` if it is no JSON, or a member is missing or out of its range.
 */
export function readCapacity(text: string): Capacity {
  const result = Tolerant.safeParse(parse(text));
  if (result.success) return result.data;
  throw new HubError('invalid', `no capacity document: ${faults(result.error)}`, {
    field: result.error.issues[0]?.path.join('.') ?? '',
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new HubError('invalid', 'no capacity document: it is no JSON', { cause });
  }
}

function faults({ issues }: z.ZodError): string {
  return issues.map(({ path, message }) => `${path.join('.') || 'document'}: ${message}`).join('; ');
}
