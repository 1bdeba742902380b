import { z } from 'zod';
import {
  advice,
  count,
  duration,
  flag,
  name,
  oneOf,
  poolName,
  port,
  secret,
  share,
  size,
  sizeOrShare,
  text,
  texts,
  token,
  tokens,
  UNBOUNDED,
} from './kinds.ts';
import { formatDuration, formatSize } from './units.ts';
import type { AnyKind, Kind } from './kinds.ts';

declare module 'zod' {
  interface GlobalMeta {
    /** On every key of the configuration: how its values are read and shown. */
    kind?: AnyKind;
  }
}

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

/** What the largest task needs around its payload in one message. */
const ENVELOPE = 64 * KIB;

/** The whole configuration of a broker and of its clients, checked and in base units. */
export type Config = z.output<ReturnType<typeof configSchema>>;

/**
 * The one schema of the configuration. Durations come out in milliseconds, sizes in bytes.
 *
 * @param memoryBytes what this process may use; the default memory limit is a share of it.
 */
export function configSchema(memoryBytes: number) {
  return z
    .strictObject({
      service: section('How this broker calls itself.', {
        name: optional(text, 'Name of this broker in logs, metrics and `/capacity`; unset: the host name.'),
        version: optional(text, 'Version that health checks report; unset: the version of the package.'),
        environment: key(text, 'development', 'Where it runs, as logs say it: `development`, `production`.'),
      }),
      grpc: section('The gRPC services.', {
        host: key(
          text,
          '127.0.0.1',
          'Address to listen on; beyond loopback only with tokens, or `insecure`.',
        ),
        port: key(port, '50051', 'Port to listen on.'),
        maxMessageBytes: key(size(64 * KIB, 64 * MIB), '8MiB', 'Largest message received, a whole batch.'),
        keepaliveMs: key(duration(SECOND, DAY), '30s', 'Time after which a silent connection is pinged.'),
        keepaliveTimeoutMs: key(
          duration(100, HOUR),
          '10s',
          'Time an answer to a ping may take before the connection counts as lost.',
        ),
        maxConnectionAgeMs: key(
          duration(SECOND, YEAR),
          '30m',
          'Age at which a connection takes no new calls, so that clients spread again (± 10 % by chance).',
        ),
        maxConnectionAgeGraceMs: key(
          duration(0, YEAR),
          '0',
          'Time that running calls have left after that; 0: as long as they need.',
        ),
        maxConcurrentStreams: key(count(1, 1_000_000), '1000', 'Calls in progress on one connection.'),
        maxConnections: key(
          count(1, 1_000_000),
          '10000',
          'Connections open at a time. When nine of ten are taken, the oldest without calls end.',
        ),
        idleTimeoutMs: key(
          duration(SECOND, YEAR),
          '10m',
          'Time after which a connection without calls ends.',
        ),
        requestTimeoutMs: key(
          duration(50, DAY),
          '30s',
          'Time a request may take to arrive completely, or the first message of a stream, and an answer to be taken.',
        ),
        maxConnectionBytes: key(
          size(MIB, UNBOUNDED),
          '64MiB',
          'Memory of one connection: requests that are not complete, answers that were not taken. Beyond it ends.',
        ),
        maxBufferBytes: key(
          sizeOrShare(16 * MIB, memoryBytes),
          '20%',
          'The same of all connections together, with what each connection and call costs by itself, and what compressed ' +
            'requests may become. Beyond it the largest connection ends.',
        ),
        maxResetsPerSecond: key(
          count(1, 1_000_000),
          '200',
          'Calls of one connection that end by a reset, such as cancelled ones; those of ten seconds may come at once.',
        ),
        maxPingsPerSecond: key(
          count(1, 1_000_000),
          '1000',
          'Pings and settings from one connection; those of ten seconds may come at once.',
        ),
        handshakeTimeoutMs: key(
          duration(50, HOUR),
          '10s',
          'Time a new connection has to agree on encryption and to begin to speak HTTP/2.',
        ),
      }),
      http: section('Health, metrics, capacity and drain over HTTP.', {
        host: key(
          text,
          '127.0.0.1',
          'Address to listen on; beyond loopback only with tokens, or `insecure`.',
        ),
        port: key(port, '8080', 'Port to listen on.'),
        privateHost: key(
          text,
          '127.0.0.1',
          'Address of `privatePort`; beyond loopback only with tokens, or `insecure`.',
        ),
        privatePort: optional(
          port,
          'Port of everything but health, which is then all that `port` answers; unset: `port` answers everything.',
        ),
        maxConnections: key(count(1, 100_000), '1000', 'Connections open at a time.'),
        maxBodyBytes: key(size(0, MIB), '64KiB', 'Largest request body.'),
        requestTimeoutMs: key(duration(100, HOUR), '10s', 'Time a request may take to arrive completely.'),
        idleTimeoutMs: key(duration(100, HOUR), '5s', 'Time a connection stays open between two requests.'),
      }),
      tls: section('Encryption of both ports; unset: plain text.', {
        certFile: optional(text, 'Certificate chain, PEM.'),
        keyFile: optional(text, 'Private key of the certificate, PEM.'),
        clientCaFile: optional(
          text,
          'Authorities, PEM, one of which must have signed the certificates that gRPC clients show.',
        ),
        clientCertificates: key(
          oneOf('require', 'request'),
          'require',
          'With `clientCaFile`: whether every gRPC client must show a certificate, or may. On the HTTP port it always ' +
            'may.',
        ),
        reloadMs: key(
          duration(50, DAY),
          '10s',
          'How often the files are looked at; when they have changed, new connections get the new certificate, and ' +
            'those that exist stay.',
        ),
      }).superRefine((tls, check) => {
        together(check, tls, 'certFile', 'keyFile');
        if (tls.clientCaFile !== undefined) together(check, tls, 'clientCaFile', 'certFile');
      }),
      auth: section('Who may come in, and do what. Without any of it only this machine is let in.', {
        tokens: key(tokens, '', 'Bearer tokens of agents.'),
        tokensFile: optional(
          text,
          'File with more of them, one a line: the token or its `sha256:` hash, then if you like a name and groups. Read anew when it changes.',
        ),
        adminTokens: key(
          tokens,
          '',
          'Bearer tokens of administrators; without any, loopback connections administer.',
        ),
        adminTokensFile: optional(text, 'File with more of them, as `auth.tokensFile`.'),
        certificates: key(
          oneOf('none', 'cn', 'dns', 'uri'),
          'none',
          'What names the principal in a client certificate (`tls.clientCaFile`): its common name, or its first alternative name of that kind.',
        ),
        policyFile: optional(
          text,
          'File with the rules of who may do what. Without one, agents are not kept apart. Read anew when it changes.',
        ),
        namespacesFile: optional(
          text,
          'File with namespaces: who is in which, their limits and weights. Read anew when it changes.',
        ),
      }),
      jwt: section('Agents that show a token of an issuer, as bearer token.', {
        issuer: optional(text, 'Issuer (`iss`) of the tokens; unset: no such tokens are taken.'),
        audience: key(texts, 'agenthub', 'Audience (`aud`) of the tokens: one of these.'),
        jwks: optional(
          text,
          'Where the keys of the issuer are: a URL, or a file, which is read anew when it changes.',
        ),
        caFile: optional(text, 'Authorities, PEM, that may sign the certificate of that URL.'),
        clockSkewMs: key(duration(0, HOUR), '30s', 'How far the clock of the issuer may be off.'),
        nameClaim: key(text, 'sub', 'Claim with the name of the agent.'),
        groupsClaim: key(text, 'groups', 'Claim with its groups: a text, or a list of them.'),
        namespaceClaim: optional(
          text,
          'Claim with its namespace; unset, or a token without it: the one that `auth.namespacesFile` says.',
        ),
      }).superRefine((jwt, check) => {
        together(check, jwt, 'issuer', 'jwks');
      }),
      serviceAccounts: section('Agents in Kubernetes that show the token of their service account.', {
        issuer: optional(
          text,
          'Issuer of the tokens, as the API server has it: `kubectl get --raw /.well-known/openid-configuration`; unset: none are taken.',
        ),
        audience: key(texts, 'agenthub', 'Audience of the tokens, as the pods ask for it: one of these.'),
        namespaced: key(
          flag,
          'false',
          'Whether every namespace of Kubernetes is one here, but for `default`, which is the default one.',
        ),
        jwks: optional(
          text,
          'Where the keys are: a URL, or a file; unset: the API server of the cluster that the broker runs in.',
        ),
        caFile: optional(text, 'Authorities, PEM, that may sign the certificate of that URL.'),
        clockSkewMs: key(duration(0, HOUR), '30s', 'How far the clock of the API server may be off.'),
      }),
      insecure: key(flag, 'false', 'Whether anybody who reaches the ports is let in as an agent.'),
      log: section('What the broker writes to standard error.', {
        level: key(oneOf('debug', 'info', 'warn', 'error'), 'info', 'The least important level written.'),
        format: key(oneOf('auto', 'json', 'pretty'), 'auto', '`auto`: pretty on a terminal, else JSON.'),
      }),
      data: section('Where tasks are kept.', {
        log: key(
          oneOf('file', 'memory', 'jetstream'),
          'file',
          '`file`: in `dir`. `jetstream`: in NATS, see `nats`. `memory` forgets everything when the process ends.',
        ),
        dir: key(text, './agenthub-data', 'Folder of the durable log.'),
        sync: key(
          oneOf('always', 'interval', 'none'),
          'always',
          'When the log is flushed to the device: before every acknowledgement, now and then, or never.',
        ),
        syncIntervalMs: key(
          duration(1, 60 * SECOND),
          '100ms',
          'Time between flushes if `sync` is `interval`.',
        ),
        segmentBytes: key(size(MIB, GIB), '64MiB', 'Size of one file of the log.'),
        maxBytes: key(size(0, UNBOUNDED), '0', 'Size of the whole log; 0: what the disk holds.'),
      }),
      nats: section('Where tasks are kept if `data.log` is `jetstream`.', {
        servers: key(texts, 'localhost:4222', 'NATS servers, `host:port` each; any one of them will do.'),
        credentialsFile: optional(
          text,
          'File of user credentials, as `nsc` writes them. As the next files, it is read anew when it changes: once NATS ' +
            'knows what it says, connections are made anew with it.',
        ),
        nkeyFile: optional(text, 'File with the seed of an nkey of a user.'),
        token: optional(secret, 'Token, if the servers ask for one.'),
        tokenFile: optional(text, 'File with that token.'),
        user: optional(text, 'User, if the servers ask for one.'),
        password: optional(secret, 'Password of the user.'),
        userFile: optional(text, 'File with the name of the user.'),
        passwordFile: optional(text, 'File with the password of the user.'),
        tls: key(flag, 'false', 'Whether to insist on TLS; always so if one of the next three is set.'),
        caFile: optional(text, 'Authorities, PEM, that may sign the certificates of the servers.'),
        certFile: optional(text, 'Certificate of the broker, PEM.'),
        keyFile: optional(text, 'Private key of that certificate, PEM.'),
        streamPrefix: key(
          name,
          'agenthub',
          'Begins the names of all streams and subjects; another one is another cluster, with a log of its own.',
        ),
        replicas: key(
          count(1, 5),
          '1',
          'Servers that keep each record: 3 survive the loss of one. May be raised later, not lowered.',
        ),
        storage: key(
          oneOf('file', 'memory'),
          'file',
          'Where the servers keep the streams; fixed once they exist.',
        ),
        maxBytesPerShard: key(
          size(0, UNBOUNDED),
          '0',
          'Largest size of one stream; 0: what the servers have. With a limit, the broker leaves a part of it to ' +
            'settle what it holds, so that a full store empties again. May be raised later, not lowered.',
        ),
        sync: key(
          oneOf('interval', 'always'),
          'interval',
          "What `sync_interval` of the servers is. They don't tell: say `always` only if they have it, since " +
            'acknowledgements then promise to survive a loss of power.',
        ),
      }).superRefine((nats, check) => {
        together(check, nats, 'user', 'password');
        together(check, nats, 'userFile', 'passwordFile');
        together(check, nats, 'certFile', 'keyFile');
      }),
      cluster: section(
        'Brokers with one `nats.streamPrefix` are one cluster, if `data.log` is `jetstream`.',
        {
          address: optional(
            text,
            '`host:port` at which clients reach the gRPC services of this very broker; unset: they are never pointed to it.',
          ),
          sessions: key(
            oneOf('owner', 'capacity', 'round-robin', 'stay'),
            'owner',
            'Where SDK sessions are pointed, if the brokers have addresses: to the owner of most of what they are ' +
              'attached to, to the broker with the lowest load score, so that all have equally many, or nowhere.',
          ),
          pool: key(
            poolName,
            'default',
            'Pool of this broker: it owns shards of that pool only. Placement rules send mailboxes to pools.',
          ),
          poolShards: key(
            count(1, 1024),
            '16',
            'Shards of that pool, if this is its first broker; those of the default pool are `shards`.',
          ),
          pulseMs: key(
            duration(50, 60 * SECOND),
            '500ms',
            'Time between two signs of life to the other brokers.',
          ),
          deadAfterMs: key(
            duration(150, 10 * 60 * SECOND),
            '1750ms',
            'Silence after which a broker counts as dead and its shards go to others; at least three pulses.',
          ),
        },
      ).superRefine((cluster, check) => {
        if (cluster.deadAfterMs >= 3 * cluster.pulseMs) return;
        check.addIssue({
          code: 'custom',
          path: ['deadAfterMs'],
          message: 'must be at least 3 × cluster.pulseMs',
        });
      }),
      shards: key(count(1, 1024), '16', 'Shards that mailboxes are spread over; fixed once the log exists.'),
      limits: section('Beyond them clients are told RESOURCE_EXHAUSTED, the limit, and when to try again.', {
        taskBytes: key(size(KIB, 6 * MIB), '4MiB', 'Largest task, result or progress report.'),
        batchTasks: key(count(1, 100_000), '10000', 'Tasks in one batch.'),
        sessions: key(count(1, 1_000_000), '20000', 'Sessions of clients.'),
        agentsPerSession: key(count(1, 1_000_000), '10000', 'Agents hosted by one session.'),
        sessionsPerPrincipal: key(
          count(0, 1_000_000),
          '0',
          'Sessions of one principal at this broker, event bus streams included; 0: as many as there may be of all. As with ' +
            'the next two, administrators have no such limit.',
        ),
        agentsPerPrincipal: key(
          count(0, 100_000_000),
          '0',
          'Agents that one principal hosts at this broker; 0: as many as its sessions may.',
        ),
        queuedBytesPerPrincipal: key(
          size(0, UNBOUNDED),
          '0',
          'Bytes of tasks that one principal has on their way to the log, not acknowledged yet; 0: as many as come.',
        ),
        attachmentsPerSession: key(
          count(1, 1_000_000),
          '20000',
          'Mailboxes that one session works on or listens to.',
        ),
        window: key(count(1, 65_536), '4096', 'Tasks an attachment may hold unfinished at a time.'),
        mailboxes: key(
          count(1, 100_000_000),
          '1000000',
          'Mailboxes that hold something or have subscribers.',
        ),
        mailboxDepth: key(count(1, 100_000_000), '1000000', 'Tasks queued in one mailbox.'),
        mailboxBytes: key(size(MIB, UNBOUNDED), '1GiB', 'Bytes queued in one mailbox.'),
        memoryHighWaterBytes: key(
          sizeOrShare(64 * MIB, memoryBytes),
          '70%',
          'Memory of the process above which publishes are refused; the share is of the container or machine.',
        ),
      }),
      session: section('The life of a client session.', {
        heartbeatMs: key(duration(50, HOUR), '3s', 'Time between two heartbeats, which renew all leases.'),
        timeoutMs: key(duration(100, DAY), '10s', 'Silence after which a session counts as disconnected.'),
        graceMs: key(
          duration(0, DAY),
          '10s',
          'Time a disconnected session may resume before its tasks go to others.',
        ),
      }).superRefine((session, check) => {
        ordered(check, 'session', session, 'heartbeatMs', 'timeoutMs');
      }),
      delivery: section('How tasks reach workers.', {
        maxAttempts: key(count(1, 1000), '5', 'Attempts after which a task becomes a dead letter.'),
        backoffInitialMs: key(
          duration(0, DAY),
          '1s',
          'Pause before the second attempt; it doubles each time.',
        ),
        backoffMaxMs: key(duration(0, DAY), '1m', 'Longest pause between two attempts.'),
        balance: key(
          oneOf('round-robin', 'capacity'),
          'round-robin',
          'Which of the competing workers is next: in turn, or the one with most free credit.',
        ),
      }).superRefine((delivery, check) => {
        ordered(check, 'delivery', delivery, 'backoffInitialMs', 'backoffMaxMs');
      }),
      retention: section('How long things are kept that nobody asks for.', {
        taskMs: key(duration(SECOND, YEAR), '7d', 'A task that nobody takes; then it is a dead letter.'),
        resultMs: key(duration(SECOND, YEAR), '24h', 'A result that nobody takes.'),
        deadLetterMs: key(duration(SECOND, YEAR), '14d', 'A dead letter.'),
        deadPerMailbox: key(
          count(0, 100_000_000),
          '10000',
          'Dead letters of one mailbox; the oldest go first.',
        ),
        resultsPerMailbox: key(
          count(1, 100_000_000),
          '100000',
          'Untaken results of one agent; the oldest go first.',
        ),
      }),
      stop: section('How the broker ends.', {
        deadlineMs: key(
          duration(0, HOUR),
          '20s',
          'Time that a stop has to finish or hand back tasks and to flush.',
        ),
      }),
      metrics: section('What `/metrics` shows.', {
        taskTypes: key(
          count(1, 10_000),
          '200',
          'Task types with figures of their own; later ones count as `other`.',
        ),
        namespaces: key(
          count(1, 1000),
          '100',
          'Namespaces with figures of their own; later ones count as `other`.',
        ),
        public: key(flag, 'false', 'Whether `/metrics` and `/capacity` need no token.'),
      }),
      tracing: section('Traces of tasks, for OpenTelemetry.', {
        endpoint: optional(
          text,
          'OTLP collector, over HTTP: `host:port` or a URL, without a path `/v1/traces` is meant. Unset: nothing is traced.',
        ),
        ratio: key(
          share,
          '1',
          'Share of the traces that begin at this broker which is kept. Those that clients have begun are kept if they keep them.',
        ),
      }),
      client: section('How commands and SDK clients reach a broker.', {
        host: key(text, 'localhost', 'Host of the broker.'),
        port: key(port, '50051', 'Port of its gRPC services.'),
        token: optional(token, 'Bearer token sent with every call.'),
        namespace: optional(
          text,
          'Namespace that commands are about, for who may name another than their own.',
        ),
        tls: key(flag, 'false', 'Whether to encrypt; always so if one of the next four is set.'),
        caFile: optional(text, 'Authorities, PEM, that may sign the certificate of the broker.'),
        certFile: optional(text, 'Certificate of the client, PEM, if the broker asks for one.'),
        keyFile: optional(text, 'Private key of that certificate, PEM.'),
        serverName: optional(
          text,
          'Name that the certificate of the broker must have, if it is not the one that is dialled.',
        ),
      }).superRefine((client, check) => together(check, client, 'certFile', 'keyFile')),
    })
    .superRefine(({ grpc }, check) => {
      if (grpc.maxConnectionBytes >= 2 * grpc.maxMessageBytes) return;
      check.addIssue({
        code: 'custom',
        path: ['grpc', 'maxConnectionBytes'],
        message: `must be at least 2 × grpc.maxMessageBytes, which is ${formatSize(grpc.maxMessageBytes)}`,
      });
    })
    .superRefine((config, check) => {
      if (config.grpc.maxMessageBytes >= config.limits.taskBytes + ENVELOPE) return;
      check.addIssue({
        code: 'custom',
        path: ['grpc', 'maxMessageBytes'],
        message: `must be at least limits.taskBytes + ${formatSize(ENVELOPE)}`,
      });
    });
}

/** A key with a default, written as a person would write it. */
function key<T>(kind: Kind<T>, fallback: string, description: string) {
  return parsed(kind).prefault(fallback).describe(description).meta({ kind });
}

/** A key that may be left out. */
function optional<T>(kind: Kind<T>, description: string) {
  return parsed(kind).optional().describe(description).meta({ kind });
}

function parsed<T>(kind: Kind<T>) {
  return z.unknown().transform((input, check): T => {
    const value = kind.parse(input);
    if (value !== undefined) return value;
    check.addIssue(`is not accepted; ${advice(kind)}`);
    return z.NEVER;
  });
}

function section<S extends z.core.$ZodShape>(description: string, shape: S) {
  return z
    .strictObject(shape)
    .prefault({} as z.input<z.ZodObject<S>>)
    .describe(description);
}

function together<K extends string>(
  check: z.RefinementCtx,
  values: Readonly<Partial<Record<K, unknown>>>,
  one: K,
  other: K,
): void {
  if ((values[one] === undefined) === (values[other] === undefined)) return;
  const [missing, given] = values[one] === undefined ? [one, other] : [other, one];
  check.addIssue({ code: 'custom', path: [missing], message: `is missing; ${given} needs it` });
}

function ordered<K extends string>(
  check: z.RefinementCtx,
  name: string,
  values: Readonly<Record<K, number>>,
  less: K,
  more: K,
): void {
  if (values[less] <= values[more]) return;
  check.addIssue({
    code: 'custom',
    path: [more],
    message: `must be at least ${name}.${less}, which is ${formatDuration(values[less])}`,
  });
}
