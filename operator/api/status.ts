import { z } from 'zod';

const time = (description: string) => z.iso.datetime({ offset: true }).describe(description);
const count = (description: string) => z.int().min(0).describe(description);

/** One condition, as Kubernetes' own kinds have them. */
export const conditionSchema = z
  .object({
    type: z.string().max(316).describe('What it is about: Available, Progressing, Degraded …'),
    status: z.enum(['True', 'False', 'Unknown']).describe('Whether it is so.'),
    observedGeneration: z
      .int()
      .min(0)
      .optional()
      .describe('The generation of the spec that it was judged by.'),
    lastTransitionTime: time('When status last changed.'),
    reason: z.string().min(1).max(1024).describe('Why, in one word for programs.'),
    message: z.string().max(32_768).describe('Why, and what to do, for people.'),
  })
  .describe('One condition.');

const metric = z
  .object({
    name: z.string().describe('tasksPerSecond, agents, cpu or memory.'),
    current: z.string().describe('What it is.'),
    target: z.string().describe('What it should be, per broker.'),
    replicas: count('Brokers that it asks for.'),
  })
  .describe('One figure and what it asks for.');

const scaling = z
  .object({
    recommended: count('Brokers that would be right by the load, before windows and rates.'),
    reason: z.string().describe('Why the number of brokers is what it is.'),
    metrics: z.array(metric).optional().describe('The figures of the last change.'),
    lastScaleTime: time('When the number of brokers was last changed.').optional(),
    recommendations: z
      .array(
        z
          .object({ time: time('Since when.'), replicas: count('Brokers asked for.') })
          .describe('One of them.'),
      )
      .optional()
      .describe('What was asked for lately, each until the next: the stabilisation windows.'),
    changes: z
      .array(
        z
          .object({
            time: time('When.'),
            from: count('Brokers before.'),
            to: count('Brokers after.'),
            reason: z.string().describe('Why.'),
          })
          .describe('One change.'),
      )
      .optional()
      .describe('The last changes of the number of brokers, newest last: for rates, and for people.'),
  })
  .describe('What autoscaling thinks.');

const draining = z
  .object({
    pod: z.string().describe('The pod that is being emptied.'),
    uid: z.string().describe('Which pod of that name.'),
    cause: z.enum(['ScaleDown', 'Update']).describe('Why it is to go.'),
    since: time('Since when.'),
    deadline: time('Until when it has time.'),
    shards: count('Shards that it still owns.').optional(),
    sessions: count('Sessions that are still connected.').optional(),
    leases: count('Tasks that its workers still hold.').optional(),
    estimatedSeconds: count('About how long it will take, by its pace so far.').optional(),
  })
  .describe('The broker that is being emptied.');

const poolStatus = z
  .object({
    name: z.string().describe('Name of the pool.'),
    replicas: count('Pods that there are.'),
    ready: count('Brokers that are ready.'),
    updated: count('Brokers that run what the spec says now.'),
    desired: count('Brokers that there are to be.'),
    revision: z.string().optional().describe('What the spec says now, in short.'),
    scaling: scaling.optional(),
    drain: draining.optional(),
  })
  .describe('One pool.');

/** What the operator has found, and what it is doing about it. */
export const statusSchema = z
  .object({
    observedGeneration: z.int().min(0).optional().describe('The generation of the spec that this is about.'),
    phase: z
      .enum(['Pending', 'Creating', 'Ready', 'Scaling', 'Updating', 'Paused', 'Degraded', 'Deleting'])
      .optional()
      .describe('All in one word; conditions say more.'),
    ready: z.string().optional().describe('Ready brokers of those that there are to be: `3/3`.'),
    brokers: count('Broker pods, of all pools.').optional(),
    desiredBrokers: count('Brokers that there are to be, of all pools.').optional(),
    replicas: count('Broker pods of the pool without rules, for the scale subresource.').optional(),
    selector: z.string().optional().describe('Labels of these pods, for the scale subresource.'),
    agents: count('Connected agents, as of the last change of this status.').optional(),
    tasksPerSecond: count('Tasks accepted per second, as of the last change of this status.').optional(),
    load: z
      .string()
      .optional()
      .describe('How busy the busiest broker is, as of the last change of this status.'),
    endpoint: z.string().optional().describe('Where agents connect to, within the cluster.'),
    natsReady: z.string().optional().describe('Ready NATS servers of those that there are to be.'),
    placement: z
      .object({
        version: count('Their version: how often they were changed.'),
        rules: count('How many there are.'),
      })
      .optional()
      .describe('The placement rules that the brokers go by, of a cluster with several pools.'),
    pools: z
      .array(poolStatus)
      .optional()
      .describe('Each pool.')
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] }),
    conditions: z
      .array(conditionSchema)
      .optional()
      .describe('Available, Progressing, Degraded, ScalingActive, CapacityStale, ShardHot, Draining.')
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] }),
  })
  .describe('What there is, and what the operator is doing.');

/** The whole status; everything may be missing from a new object. */
export type BrokerClusterStatus = Readonly<z.output<typeof statusSchema>>;
/** The status of one pool. */
export type PoolStatus = Readonly<z.output<typeof poolStatus>>;
/** What is kept of autoscaling. */
export type ScalingStatus = Readonly<z.output<typeof scaling>>;
/** A drain under way. */
export type DrainingStatus = Readonly<z.output<typeof draining>>;
/** One condition. */
export type Condition = Readonly<z.output<typeof conditionSchema>>;
