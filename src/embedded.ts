import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Broker } from './broker/broker.ts';
import { Helm } from './broker/helm.ts';
import { TaskTraces } from './broker/traces.ts';
import type { Vitals } from './cluster/cluster.ts';
import { meet } from './clustered.ts';
import type { Config } from './config/schema.ts';
import { AdminEdge } from './edge/admin.ts';
import { EVENT_BUS_METHODS, EventBusEdge } from './edge/eventbus.ts';
import { grpcHealth } from './edge/grpc-health.ts';
import type { HttpParts } from './edge/http.ts';
import { HttpEdge } from './edge/http.ts';
import { changePlacement, placementOf } from './edge/placement.ts';
import { FairShare } from './edge/fair-share.ts';
import { CONGESTED_BYTES, NativeEdge } from './edge/native.ts';
import { Principals } from './edge/principals.ts';
import { reflection } from './edge/reflection.ts';
import type { Service } from './edge/server.ts';
import { GrpcEdge } from './edge/server.ts';
import { LEVEL } from './edge/session.ts';
import { SessionsDoor } from './edge/sessions-door.ts';
import { BrokerStatus } from './edge/status.ts';
import { gauges } from './gauges.ts';
import { CertificateWatch } from './edge/tls.ts';
import { TaskFinder } from './edge/task-finder.ts';
import { Tenants } from './edge/tenants.ts';
import type { Entrance } from './entrance.ts';
import { openEntrance } from './entrance.ts';
import { DiskStorage } from './log/disk.ts';
import { FileLog } from './log/file.ts';
import { JetStreamLog } from './log/jetstream.ts';
import type { Log } from './log/log.ts';
import { MemoryLog } from './log/memory.ts';
import type { OtlpSpans } from './obs/otlp.ts';
import type { NatsAccess } from './nats/connection.ts';
import { NatsCredentials } from './nats/credentials.ts';
import { NatsFigures } from './nats/figures.ts';
import { Exposition } from './obs/exposition.ts';
import { Metrics } from './obs/metrics.ts';
import { NodeProcess } from './obs/process.ts';
import { RecentLatencies } from './obs/recent.ts';
import type { Timer } from './std/clock.ts';
import type { HubError } from './std/errors.ts';
import { toHubError } from './std/errors.ts';
import type { Logger, LogThreshold } from './std/logger.ts';
import { systemClock, systemRandom } from './std/system.ts';
import { Admin } from './wire/gen/agenthub/v1/admin_pb.ts';
import { Broker as BrokerService } from './wire/gen/agenthub/v1/broker_pb.ts';
import { EventBus } from './wire/gen/eventbus/eventbus_pb.ts';
import { serviceDefinition } from './wire/service.ts';

/** Time between an owner's records while it has much to write, in milliseconds. */
const TICK_MS = 2;
/** How often it looks for sessions that went silent, and notes its latencies, in milliseconds at most. */
const WATCH_MS = 3000;
/** How often a stopping broker looks whether its leases are settled, in milliseconds. */
const STOP_CHECK_MS = 20;
/** How long what may pass by itself is waited for at the start, in milliseconds, and how often it is tried. */
const PATIENCE_MS: Readonly<Record<string, number>> = {
  unavailable: 60_000,
  // Servers that have yet to find each other can't keep so many replicas.
  'precondition nats.replicas': 20_000,
};
const AGAIN_MS = 1000;
/** A broker with so many agents, or so many tasks per second, counts as full. */
const FULL_AGENTS = 100_000;
const FULL_TASKS_PER_SECOND = 250_000;

/** A broker that runs in this process, with nothing else. */
export interface Embedded {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Where everything but health is answered, if that is another port. */
  readonly privateHttpPort?: number;
  readonly broker: Broker;
  /** Resolves with the reason if the broker can't go on. */
  readonly failed: Promise<HubError>;
  /**
   * Stops in good order: nothing new is accepted, sessions are told to go, their leases are finished or
   * handed back within the deadline of the configuration, and the log is written out.
   */
  stop(): Promise<void>;
}

/** Starts a broker and its ports; the configuration says all, but for what is logged from when on: `threshold`. */
export async function startEmbedded(
  config: Config,
  logger: Logger,
  threshold?: LogThreshold,
): Promise<Embedded> {
  const { taskTypes, namespaces } = config.metrics;
  const metrics = new Metrics({ clock: systemClock, taskTypes, namespaces });
  const entrance = openEntrance(config, { clock: systemClock, logger, metrics });
  return await start(config, logger, metrics, entrance, threshold).catch((error: unknown) => {
    entrance.close();
    throw error;
  });
}

async function start(
  config: Config,
  logger: Logger,
  metrics: Metrics,
  entrance: Entrance,
  threshold: LogThreshold = { level: config.log.level },
): Promise<Embedded> {
  const clock = systemClock;
  const random = systemRandom;
  const { door } = entrance;
  const version = config.service.version ?? packageVersion();
  const tls = watchCertificates(config, logger, metrics);
  const credentials = config.data.log === 'jetstream' ? new NatsCredentials(config.nats) : undefined;
  const probe = new NodeProcess(clock);
  const figures = new NatsFigures();
  const connecting = { figures, credentials };
  const log = await patiently('the log', () => openLog(config, logger, connecting), logger);
  const id = `${config.service.name ?? hostname()}-${random.token(3)}`;
  const vitals = (): Vitals => ({ ...broker.vitals(), ...status.load(), ...tenants.vitals() });
  const meeting = await patiently(
    'the cluster',
    () => meet(config, { id, version, level: LEVEL, vitals }, logger, connecting),
    logger,
  ).catch(async (error: unknown) => {
    await log.close();
    probe.close();
    throw error;
  });

  const { promise: failed, resolve: fail } = Promise.withResolvers<HubError>();
  const spans = await openSpans(config, id, version, logger);
  const broker = new Broker({
    cluster: meeting.cluster,
    links: meeting.links,
    peers: meeting.peers,
    log,
    clock,
    random,
    logger,
    metrics,
    memory: () => probe.memory().rss,
    limits: config.limits,
    delivery: config.delivery,
    retention: config.retention,
    graceMs: config.session.graceMs,
    traces:
      spans &&
      new TaskTraces({
        spans,
        clock,
        broker: id,
        taskTypes: config.metrics.taskTypes,
        taskBytes: config.limits.taskBytes,
      }),
    tickMs: TICK_MS,
    failed: fail,
  });
  const { namespaces } = entrance;
  const tenants = new Tenants({ broker, clock, namespaces, expected: () => door.divided });
  const fair = new FairShare({
    clock,
    divided: () => tenants.divided,
    congested: () => broker.ingress.waitingBytes > CONGESTED_BYTES,
  });
  entrance.watch(() => {
    for (const session of broker.sessions.values()) session.rejudge();
  });
  const status = new BrokerStatus({
    broker,
    metrics,
    process: probe,
    clock,
    door,
    version,
    natsUser: () => credentials?.identity,
    full: {
      agents: FULL_AGENTS,
      tasksPerSecond: FULL_TASKS_PER_SECOND,
      memoryBytes: config.limits.memoryHighWaterBytes,
    },
    drainMs: config.stop.deadlineMs,
  });
  const finder = new TaskFinder(broker, clock);
  const principals = new Principals({ broker, clock, limits: config.limits });
  const sessions = new SessionsDoor({
    principals,
    broker,
    clock,
    random,
    finder,
    tenants,
    fair,
    maxSessions: config.limits.sessions,
    settings: {
      version,
      heartbeatMs: config.session.heartbeatMs,
      timeoutMs: config.session.timeoutMs,
      graceMs: config.session.graceMs,
      maxWindow: config.limits.window,
      maxAttachments: config.limits.attachmentsPerSession,
      maxAgents: config.limits.agentsPerSession,
      frameBytes: config.grpc.maxMessageBytes,
      taskBytes: config.limits.taskBytes,
      batchTasks: config.limits.batchTasks,
    },
  });
  const native = new NativeEdge({
    principals,
    broker,
    clock,
    door,
    sessions,
    finder,
    tenants,
    fair,
    log: config.data.log,
    describe: () => status.view(LEVEL),
  });
  const eventBus = new EventBusEdge({
    principals,
    broker,
    clock,
    random,
    logger,
    metrics,
    door,
    tenants,
    fair,
    taskBytes: config.limits.taskBytes,
    maxSessions: config.limits.sessions,
  });
  const latencies = new RecentLatencies(clock, metrics);
  const admin = new AdminEdge({ broker, clock, metrics, latencies, status, tenants, door });
  const services: Service[] = [
    {
      definition: serviceDefinition(BrokerService, ['connect', 'publish']),
      implementation: native.implementation(),
    },
    { definition: serviceDefinition(EventBus, EVENT_BUS_METHODS), implementation: eventBus.implementation() },
    { definition: serviceDefinition(Admin), implementation: admin.implementation() },
    ...grpcHealth(broker, [BrokerService.typeName, EventBus.typeName, Admin.typeName]),
    ...reflection([BrokerService, EventBus, Admin]),
  ];
  const letGo = async (): Promise<void> => {
    credentials?.close();
    await new Promise<void>((left) => meeting.cluster.stop(left));
    await meeting.close();
    await log.close();
  };
  // Other brokers may ask it as soon as it serves.
  await new Promise<void>((resolve, reject) => {
    void failed.then(reject);
    broker.start(resolve);
  }).catch(async (error: unknown) => {
    broker.stop();
    await letGo();
    probe.close();
    throw error;
  });
  const grpc = new GrpcEdge(
    services,
    {
      clock,
      logger,
      counts: {
        limit: (key) => metrics.limits.of(key).add(),
        broken: (reason) => metrics.connectionsBroken.of(reason).add(),
      },
    },
    { ...config.grpc, tls },
  );

  const exposition = new Exposition(metrics, probe);
  exposition.watch(
    gauges({
      broker,
      status,
      clock,
      tenants,
      mostNamespaces: config.metrics.namespaces,
      connections: () => door.connections,
      memoryHighWaterBytes: config.limits.memoryHighWaterBytes,
      nats: figures,
      certificateRemaining: () => tls?.remainingSeconds ?? [],
    }),
  );
  const parts: HttpParts = {
    clock,
    logger,
    health: () => status.health(),
    metrics: exposition,
    capacity: () => status.capacity(),
    drain: status.drain,
    placement: {
      read: () => placementOf(broker),
      change: (rules) => changePlacement(broker, rules),
    },
    door,
    publicMetrics: config.metrics.public,
    threshold,
    newId: () => random.token(8),
  };
  const { privatePort, privateHost } = config.http;
  const http = new HttpEdge(parts, { ...config.http, tls, publicOnly: privatePort !== undefined });
  const inside =
    privatePort === undefined
      ? undefined
      : new HttpEdge(parts, {
          ...config.http,
          tls,
          key: 'http.privatePort',
          host: privateHost,
          port: privatePort,
        });

  const helm = new Helm({ broker, clock, random, mode: config.cluster.sessions });
  let watch: Timer | undefined;
  const look = (): void => {
    latencies.note();
    watch = clock.after(Math.min(WATCH_MS, config.session.heartbeatMs), () => {
      const now = clock.now();
      for (const session of broker.sessions.values()) session.checkAlive(now);
      helm.look();
      look();
    });
  };
  look();

  tls?.start();
  credentials?.watch(clock, logger);
  const grpcPort = await grpc.listen();
  const httpPort = await http.listen();
  const privateHttpPort = await inside?.listen();
  const ports = { grpcPort, httpPort, ...(privateHttpPort === undefined ? {} : { privateHttpPort }) };
  logger.info({ broker: broker.id, ...ports, durability: log.durability }, 'the broker is ready');

  const stop = async (): Promise<void> => {
    const until = clock.now() + config.stop.deadlineMs;
    broker.evacuate('the broker is stopping', config.stop.deadlineMs);
    const waiting = (): boolean => broker.leases() > 0 || !broker.settled;
    while (
      (broker.shardsToHandOver > 0 || (waiting() && broker.sessions.connected > 0)) &&
      clock.now() < until
    )
      await sleep(STOP_CHECK_MS);
    for (const session of broker.sessions.values()) session.handBack();
    while (!broker.settled && clock.now() < until) await sleep(STOP_CHECK_MS);
    watch?.cancel();
    for (const session of broker.sessions.values()) session.close();
    await grpc.close(Math.max(100, Math.min(1000, until - clock.now())));
    broker.stop();
    await letGo();
    await http.close();
    await inside?.close();
    tls?.stop();
    entrance.close();
    probe.close();
    await spans?.close();
    logger.info({ broker: broker.id }, 'the broker has stopped');
  };
  return { ...ports, broker, failed, stop };
}

/**
 * Opens something that may not be there yet: NATS servers that start together with the broker need a while to
 * find a leader.
 */
async function patiently<T>(what: string, open: () => Promise<T>, logger: Logger): Promise<T> {
  const since = systemClock.now();
  for (;;) {
    try {
      return await open();
    } catch (error) {
      const { code, message, field } = toHubError(error);
      const patience = PATIENCE_MS[`${code} ${field ?? ''}`] ?? PATIENCE_MS[code] ?? 0;
      if (systemClock.now() - since > patience) throw error;
      logger.warn({ error: message }, `${what} can't be opened yet; trying again`);
      await sleep(AGAIN_MS);
    }
  }
}

async function openLog(
  config: Config,
  logger: Logger,
  connecting: Pick<NatsAccess, 'figures' | 'credentials'>,
): Promise<Log> {
  const { data, shards } = config;
  if (data.log === 'memory') return new MemoryLog({ clock: systemClock, shards, generation: randomUUID() });
  if (data.log === 'jetstream') {
    return await JetStreamLog.open({
      ...config.nats,
      ...connecting,
      prefix: config.nats.streamPrefix,
      clock: systemClock,
      logger,
      shards,
      name: `agenthub ${config.service.name ?? hostname()}`,
      generation: randomUUID(),
    });
  }
  const storage = await DiskStorage.open(data.dir);
  return FileLog.open({
    storage,
    clock: systemClock,
    logger,
    shards,
    generation: randomUUID(),
    sync: data.sync,
    syncIntervalMs: data.syncIntervalMs,
    segmentBytes: data.segmentBytes,
    ...(data.maxBytes > 0 ? { maxBytes: data.maxBytes } : {}),
  });
}

/** Where spans are sent, if somebody wants them; else nothing of OpenTelemetry is even loaded. */
async function openSpans(
  { tracing, service }: Config,
  id: string,
  version: string,
  logger: Logger,
): Promise<OtlpSpans | undefined> {
  const { endpoint, ratio } = tracing;
  if (endpoint === undefined) return undefined;
  const { OtlpSpans } = await import('./obs/otlp.ts');
  const resource = {
    'service.name': 'agenthub',
    'service.instance.id': id,
    'service.version': version,
    'deployment.environment.name': service.environment,
  };
  return new OtlpSpans({ endpoint, ratio, resource, clock: systemClock, logger });
}

function watchCertificates(config: Config, logger: Logger, metrics: Metrics): CertificateWatch | undefined {
  const { certFile, keyFile, clientCaFile, clientCertificates, reloadMs } = config.tls;
  if (certFile === undefined || keyFile === undefined) return undefined;
  return new CertificateWatch({
    files: { certFile, keyFile, clientCaFile },
    clientCertificates,
    reloadMs,
    clock: systemClock,
    logger,
    counted: (result) => metrics.tlsReloads.of(result).add(),
  });
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(ms, resolve));
}
