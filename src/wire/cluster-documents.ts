import { z } from 'zod';
import type { Assignment } from '../core/assignment.ts';
import type { PlacementRules } from '../core/placement.ts';
import { checkPlacementRules } from '../core/placement.ts';
import type { Pools } from '../core/pools.ts';
import { DEFAULT_POOL } from '../core/pools.ts';
import { HubError } from '../std/errors.ts';

// All of these drop what they don't know: the writer may be newer.

const count = z.int().nonnegative();
const name = z.string().min(1);

const MemberSchema = z
  .object({
    id: name,
    address: z.string(),
    joinedAt: z.number(),
    version: z.string(),
    level: count,
    draining: z.boolean(),
    pool: name.default(DEFAULT_POOL),
  })
  .readonly();

const PoolsSchema = z
  .array(z.object({ name, first: count, shards: z.int().positive() }).readonly())
  .min(1)
  .readonly()
  .refine((pools) => pools.every(({ first }, at) => first === (at === 0 ? 0 : end(pools[at - 1]!))), {
    message: 'the shards of each must stand right behind those of the one before',
  });

const RuleSchema = z.strictObject({
  pool: z.string(),
  range: z.strictObject({ prefix: z.string(), first: z.number(), last: z.number() }).readonly().optional(),
  agents: z.string().optional(),
  region: z.string().optional(),
  taskTypes: z.string().optional(),
  spread: z.number().optional(),
});

const PlacementSchema = z.strictObject({
  version: z.number().default(0),
  defaultPool: z.string().default(DEFAULT_POOL),
  rules: z.array(RuleSchema).readonly(),
});

const AssignmentSchema = z.object({
  owners: z.array(z.string()).readonly(),
  pins: z.record(z.string().regex(/^\d+$/), name).readonly().default({}),
});

const VitalsSchema = z
  .object({
    loadScore: z.number().min(0).max(1),
    agents: count,
    sessions: count,
    tasksPerSecond: z.number().nonnegative(),
    full: z.array(z.tuple([count, z.string(), z.string()]).readonly()).readonly(),
    recipients: z.array(z.tuple([count, count]).readonly()).readonly(),
    recipientsOf: z
      .array(z.tuple([count, name, count]).readonly())
      .readonly()
      .optional(),
    namespaces: z
      .array(z.tuple([z.string(), count, count, count, count]).readonly())
      .readonly()
      .optional(),
  })
  .readonly();

const PulseSchema = z
  .object({
    id: name,
    n: count,
    leaving: z.boolean().default(false),
    claims: z.array(z.tuple([count, count, count]).readonly()).readonly(),
    vitals: VitalsSchema,
  })
  .readonly();

const WantSchema = z.object({ shard: count, by: name, revision: count }).readonly();

/** What the store keeps of a broker. */
export type MemberDocument = z.output<typeof MemberSchema>;

/** What a broker tells all others, again and again. */
export interface Pulse extends z.output<typeof PulseSchema> {
  /** Rises with every pulse of this broker. */
  readonly n: number;
  /** It stops now: nobody need wait until it is missed. */
  readonly leaving: boolean;
  /** The shards that it serves, each with its epoch. */
  readonly claims: readonly (readonly [shard: number, revision: number, counter: number])[];
}

/** A broker asks the one that serves a shard to let go of it. */
export interface Want extends z.output<typeof WantSchema> {
  /** Who is to own it. */
  readonly by: string;
  /** The revision of the assignment that says so. */
  readonly revision: number;
}

/** The document of a broker as JSON. */
export function writeMember(member: MemberDocument): string {
  return JSON.stringify(member);
}

/** @throws HubError `invalid` if it isn't the document of a broker. */
export function readMember(text: string): MemberDocument {
  return read('document of a member', MemberSchema, text);
}

/** The assignment as JSON. */
export function writeAssignment(assignment: Assignment): string {
  return JSON.stringify(assignment);
}

/** @throws HubError `invalid` if it isn't an assignment. */
export function readAssignment(text: string): Assignment {
  return read('assignment', AssignmentSchema, text);
}

/** The pools as JSON. */
export function writePools(pools: Pools): string {
  return JSON.stringify(pools);
}

/** @throws HubError `invalid` if these aren't the pools of a cluster. */
export function readPools(text: string): Pools {
  return read('list of pools', PoolsSchema, text);
}

/** Placement rules as JSON, as people write them, too. */
export function writePlacement(rules: PlacementRules): string {
  return JSON.stringify(rules, null, 2);
}

/** @throws HubError `invalid` if these aren't placement rules, or make no sense; it names the member. */
export function readPlacement(text: string): PlacementRules {
  const rules = read('placement', PlacementSchema, text) as PlacementRules;
  checkPlacementRules(rules);
  return rules;
}

/** A pulse as it goes over the bus: JSON. */
export function writePulse(pulse: Pulse): Buffer {
  return Buffer.from(JSON.stringify(pulse));
}

/** @throws HubError `invalid` if it isn't a pulse. */
export function readPulse(bytes: Buffer): Pulse {
  return read('pulse', PulseSchema, bytes.toString('utf8'));
}

/** A want as it goes over the bus: JSON. */
export function writeWant(want: Want): Buffer {
  return Buffer.from(JSON.stringify(want));
}

/** @throws HubError `invalid` if it isn't a want. */
export function readWant(bytes: Buffer): Want {
  return read('want', WantSchema, bytes.toString('utf8'));
}

function end({ first, shards }: { readonly first: number; readonly shards: number }): number {
  return first + shards;
}

function read<T>(what: string, schema: z.ZodType<T>, text: string): T {
  const result = schema.safeParse(parse(what, text));
  if (result.success) return result.data;
  const [first] = result.error.issues;
  throw new HubError('invalid', `no ${what}: ${first?.path.join('.') || 'document'}: ${first?.message}`, {
    field: first?.path.join('.') ?? '',
  });
}

function parse(what: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new HubError('invalid', `no ${what}: it is no JSON`, { cause });
  }
}
