import { z } from 'zod';
import {
  fixed,
  names,
  objectName,
  passedOn,
  quantity,
  ruled,
  secretKey,
  seconds,
  section,
} from './schema.ts';

const MAX_REPLICAS = 256;
const MAX_SHARDS = 1024;

const ONE_MATCHER =
  '[has(self.agents), has(self.range), has(self.taskTypes), has(self.region)].filter(m, m).size() == 1';

const rule = ruled(
  z
    .object({
      agents: z
        .string()
        .min(1)
        .max(256)
        .optional()
        .describe('A glob over whole agent ids, region included: `billing-*`.'),
      range: ruled(
        z
          .object({
            prefix: z
              .string()
              .max(256)
              .describe('What the ids begin with, as `agents_`; it does not end with a digit.'),
            first: z.int().min(0).describe('The first number.'),
            last: z.int().min(0).describe('The last number.'),
          })
          .optional()
          .describe(
            'Agents `<prefix><number>`, as `agents_1` to `agents_1000`; numbers without leading zeros.',
          ),
        { rule: 'self.first <= self.last', message: 'first must not be greater than last' },
        {
          rule: "!self.prefix.matches('[0-9]$')",
          message: 'prefix must not end with a digit: the number starts after it',
        },
      ),
      region: z
        .string()
        .min(1)
        .max(256)
        .regex(/^[^@]+$/)
        .optional()
        .describe('Agents whose id ends with `@<region>`.'),
      taskTypes: z.string().min(1).max(256).optional().describe('A glob over task types: `ocr-*`.'),
      spread: z
        .int()
        .min(1)
        .max(256)
        .optional()
        .describe(
          'Into how many mailboxes each task type that matches `taskTypes` is split, so that a hot one can use ' +
            'several shards. It gives up order among them.',
        ),
    })
    .describe('Which mailboxes live in this pool: exactly one of agents, range, region and taskTypes.'),
  {
    rule: ONE_MATCHER,
    message: 'give exactly one of agents, range, region and taskTypes; make one rule for each',
  },
  {
    rule: '!has(self.spread) || has(self.taskTypes)',
    message: 'spread is for rules with taskTypes only: an agent has one mailbox',
    fieldPath: '.spread',
  },
);

const RESOURCES = { requests: { cpu: '500m', memory: '1Gi' }, limits: { memory: '1Gi' } };

function resources(fallback: typeof RESOURCES) {
  return z
    .object({
      requests: z
        .record(z.string(), quantity('An amount.'))
        .optional()
        .describe('What is reserved: cpu and memory; extended resources too.'),
      limits: z
        .record(z.string(), quantity('An amount.'))
        .optional()
        .describe('What is never exceeded. A limit of CPU makes latencies worse and is seldom wanted.'),
    })
    .default(fallback)
    .describe(
      'Requests and limits of the container. A broker uses one core and a little more; it refuses publishes above ' +
        '70 % of its memory limit.',
    );
}

const topology = section(
  {
    spread: z
      .array(z.string().min(1).max(316))
      .max(8)
      .default(['topology.kubernetes.io/zone', 'kubernetes.io/hostname'])
      .describe('Node labels over whose values pods are spread evenly, if that is possible.'),
    strict: z.boolean().default(false).describe('Whether a pod waits rather than being placed unevenly.'),
    nodeSelector: names('Labels that nodes must have.'),
    tolerations: z
      .array(passedOn('A toleration.'))
      .max(64)
      .default([])
      .describe('Taints of nodes that are tolerated.'),
    affinity: passedOn('Affinity of the pods, as in a pod.').optional(),
    priorityClassName: z.string().max(253).optional().describe('Priority class of the pods.'),
  },
  'On which nodes pods may run.',
);

const pool = ruled(
  z
    .object({
      name: z
        .string()
        .min(1)
        .max(20)
        .regex(/^[a-z]([-a-z0-9]*[a-z0-9])?$/)
        .describe('Name of the pool; its pods are called `<cluster>-<pool>-<number>`.'),
      rules: z
        .array(rule)
        .max(256)
        .default([])
        .describe(
          'Which mailboxes live in this pool. The first rule that matches counts, in the order of pools and rules. ' +
            'The pool without rules takes all the rest.',
        ),
      replicas: z
        .int()
        .min(0)
        .max(MAX_REPLICAS)
        .optional()
        .describe(
          'Brokers of this pool, unless autoscaling decides. Only for pools with rules: the number of the pool ' +
            'without rules is `spec.replicas`. Default: minReplicas.',
        ),
      minReplicas: z
        .int()
        .min(1)
        .max(MAX_REPLICAS)
        .default(2)
        .describe('The fewest brokers autoscaling may choose.'),
      maxReplicas: z
        .int()
        .min(1)
        .max(MAX_REPLICAS)
        .default(10)
        .describe('The most brokers autoscaling may choose.'),
      shards: z
        .int()
        .min(1)
        .max(MAX_SHARDS)
        .optional()
        .describe(
          'Shards of this pool, if it shall have other than `spec.shards`. Fixed once the pool exists.',
        ),
      workers: z
        .int()
        .min(1)
        .max(64)
        .default(1)
        .describe(
          'Broker processes in each pod. This version runs exactly one; more cores need more replicas.',
        ),
      resources: resources(RESOURCES),
      topology,
      podTemplate: passedOn(
        'Laid over the pod template of this pool, after `spec.podTemplate`: objects are merged, containers, volumes ' +
          'and other lists of named things by name, other lists are replaced, null removes.',
      ).optional(),
    })
    .describe('A group of brokers with its own shards, bounds and nodes.'),
  {
    rule: 'self.minReplicas <= self.maxReplicas',
    message: 'minReplicas must not be greater than maxReplicas',
    fieldPath: '.minReplicas',
  },
  {
    rule: '!has(self.replicas) || self.rules.size() > 0',
    message: 'the number of brokers of the pool without rules is spec.replicas; set that',
    fieldPath: '.replicas',
  },
  {
    rule: 'self.workers == 1',
    message: 'this version runs one broker per pod; raise maxReplicas or replicas instead',
    fieldPath: '.workers',
  },
  {
    rule: "self.name != 'nats'",
    message: "a pool can't be called nats: the NATS servers of the cluster are; choose another name",
    fieldPath: '.name',
  },
  {
    rule: "self.name != 'default' || self.rules.size() == 0",
    message: "a pool with rules can't be called default: so brokers call the pool without rules",
    fieldPath: '.name',
  },
  {
    rule: 'has(self.shards) == has(oldSelf.shards) && (!has(self.shards) || self.shards == oldSelf.shards)',
    message:
      "shards of a pool can't be changed: its log is laid out by them; make another pool and move the rules there",
    fieldPath: '.shards',
  },
);

const durability = section(
  {
    replicas: ruled(
      z
        .int()
        .min(1)
        .max(5)
        .default(3)
        .describe(
          'NATS servers that keep each record: with 3 the loss of any one loses nothing, with 1 the loss of its ' +
            'volume loses all. May be raised later, not lowered.',
        ),
      { rule: 'self in [1, 3, 5]', message: 'must be 1, 3 or 5: an even number survives no more failures' },
      { rule: 'self >= oldSelf', message: "can't be lowered: acknowledged tasks were promised more" },
    ),
    storage: fixed(
      z.enum(['file', 'memory']).default('file').describe('Where NATS keeps the records.'),
      'the streams exist; make a new cluster',
    ),
    sync: z
      .enum(['interval', 'always'])
      .default('interval')
      .describe(
        'When NATS flushes to the device: every second, or before it acknowledges, which survives that all servers ' +
          'lose power at once and costs throughput. With `nats.external` it says what those servers do.',
      ),
    maxBytesPerShard: quantity(
      'Largest size of the log of one shard; 0 is what NATS has. May be raised later.',
    ).default(0),
  },
  'How safe an acknowledged task is.',
);

const managed = z.object({
  image: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .describe(
      'Image of NATS 2.12 or later; unset: the one that the operator was installed with, and then kept.',
    ),
  servers: ruled(
    z.int().min(1).max(5).default(3).describe('NATS servers: 1, 3 or 5.'),
    { rule: 'self in [1, 3, 5]', message: 'must be 1, 3 or 5: an even number survives no more failures' },
    {
      rule: 'self == oldSelf',
      message: "can't be changed: a NATS cluster does not change its size in place; make a new BrokerCluster",
    },
  ),
  volume: section(
    {
      size: fixed(
        quantity('Size of the volume of each server.').default('10Gi'),
        'Kubernetes does not resize volumes of a StatefulSet; enlarge the PersistentVolumeClaims themselves',
      ),
      storageClassName: fixed(
        z.string().max(253).default('').describe('Storage class; empty: the default one of Kubernetes.'),
        'the volumes exist',
      ),
      onDelete: z
        .enum(['Retain', 'Delete'])
        .default('Retain')
        .describe(
          'What becomes of the volumes, and of all tasks in them, when the BrokerCluster is deleted.',
        ),
    },
    'Volume of each server.',
  ),
  resources: resources({ requests: { cpu: '500m', memory: '1Gi' }, limits: { memory: '2Gi' } }),
  topology,
  podTemplate: passedOn('Laid over the pod template of the NATS servers, as that of a pool.').optional(),
});

const external = z.object({
  servers: z
    .array(z.string().min(1).max(512))
    .min(1)
    .max(32)
    .describe('NATS servers with JetStream, `host:port` each; any one of them will do.'),
  streamPrefix: fixed(
    z
      .string()
      .max(32)
      .regex(/^[\w-]*$/)
      .default('')
      .describe('Begins the names of all streams; empty: namespace and name of the cluster.'),
    'another prefix is another, empty log',
  ),
  credentials: secretKey('user.creds', 'User credentials, as `nsc` writes them.').optional(),
  nkey: secretKey('seed', 'Seed of an nkey.').optional(),
  token: secretKey('token', 'Token, if the servers ask for one.').optional(),
  userPassword: objectName(
    'Secret with the keys username and password (kubernetes.io/basic-auth).',
  ).optional(),
  tls: z
    .object({
      ca: secretKey('ca.crt', 'Authorities that may sign the certificates of the servers.').optional(),
      certificate: objectName(
        'Secret with the keys tls.crt and tls.key: the certificate of the brokers.',
      ).optional(),
    })
    .optional()
    .describe('Encrypts the connection to NATS; may be empty if a public authority signed the servers.'),
});

const ONE_CREDENTIAL =
  '[has(self.credentials), has(self.nkey), has(self.token), has(self.userPassword)].filter(c, c).size() <= 1';

const nats = ruled(
  z
    .object({
      managed: z
        .object(managed.shape)
        .optional()
        .describe('NATS servers that the operator runs for this cluster alone.'),
      external: ruled(
        z
          .object(external.shape)
          .optional()
          .describe('NATS servers that are there already. Let nobody but this cluster touch its streams.'),
        {
          rule: ONE_CREDENTIAL,
          message: 'give at most one of credentials, nkey, token and userPassword',
        },
      ),
    })
    .default(() => ({ managed: managed.parse({}) }))
    .describe('Where tasks are kept: NATS with JetStream, managed by the operator or external.'),
  {
    rule: 'has(self.managed) != has(self.external)',
    message: 'choose one of nats.managed and nats.external',
  },
  {
    rule: 'has(self.managed) == has(oldSelf.managed)',
    message:
      "the log can't be moved to other servers by changing this; make a new BrokerCluster and move agents there",
  },
);

const policies = (fallback: { type: 'Pods' | 'Percent'; value: number; periodSeconds: number }[]) =>
  z
    .array(
      z.object({
        type: z.enum(['Pods', 'Percent']).describe('Whether value counts brokers, or percent of them.'),
        value: z.int().min(1).max(10_000).describe('How many.'),
        periodSeconds: z.int().min(1).max(1800).describe('Within how many seconds.'),
      }),
    )
    .max(8)
    .default(fallback)
    .describe('How much the number of brokers may change within a time.');

const selectPolicy = z
  .enum(['Max', 'Min', 'Disabled'])
  .default('Max')
  .describe('Which policy counts: the one that allows most, least, or no change in this direction at all.');

const autoscaling = ruled(
  section(
    {
      mode: z
        .enum(['Auto', 'Recommend', 'Off'])
        .default('Auto')
        .describe(
          'Auto: the operator chooses the number of brokers. Recommend: it only says in the status what it would ' +
            'choose. Off: neither.',
        ),
      targets: section(
        {
          tasksPerSecond: z
            .int()
            .min(0)
            .max(10_000_000)
            .default(50_000)
            .describe(
              'Tasks per second of the busiest broker, by the shards that it would own; 0: does not count.',
            ),
          agents: z
            .int()
            .min(0)
            .max(10_000_000)
            .default(10_000)
            .describe('Connected agents per broker; 0: does not count.'),
          cpuPercent: z
            .int()
            .min(0)
            .max(1000)
            .default(70)
            .describe(
              'CPU per broker, in percent of its request, or of one core if it has none; 0: does not count.',
            ),
          memoryPercent: z
            .int()
            .min(0)
            .max(100)
            .default(80)
            .describe('Memory per broker, in percent of what it accepts publishes up to; 0: does not count.'),
        },
        'What each broker should carry. The figure that asks for most brokers counts.',
      ),
      tolerancePercent: z
        .int()
        .min(0)
        .max(50)
        .default(10)
        .describe('By how much a figure may be off its target before it asks for another number.'),
      intervalSeconds: seconds(5, 300, 15, 'Time between two looks at `/capacity`.'),
      scaleUp: section(
        {
          stabilizationWindowSeconds: seconds(
            0,
            3600,
            0,
            'The smallest number asked for within this time counts.',
          ),
          selectPolicy,
          policies: policies([
            { type: 'Percent', value: 100, periodSeconds: 15 },
            { type: 'Pods', value: 4, periodSeconds: 15 },
          ]),
        },
        'How fast brokers are added.',
      ),
      scaleDown: section(
        {
          stabilizationWindowSeconds: seconds(
            0,
            3600,
            300,
            'The largest number asked for within this time counts.',
          ),
          selectPolicy,
          policies: policies([{ type: 'Pods', value: 1, periodSeconds: 60 }]),
        },
        'How fast brokers are removed; each is drained first.',
      ),
    },
    'How the number of brokers follows the load.',
  ),
  {
    rule: "self.mode == 'Off' || self.targets.tasksPerSecond + self.targets.agents + self.targets.cpuPercent + self.targets.memoryPercent > 0",
    message: 'give at least one target that is not 0, or set mode to Off',
  },
);

const drain = section(
  {
    deadlineSeconds: seconds(
      0,
      86_400,
      300,
      'Time a broker has to hand over its shards and sessions before it is removed.',
    ),
    onTimeout: z
      .enum(['Force', 'Hold'])
      .default('Force')
      .describe(
        'What happens after that. Force: the broker is removed; nothing is lost, but its unfinished tasks are ' +
          'delivered again. Hold: it stays, and a condition says so.',
      ),
    terminationGracePeriodSeconds: seconds(
      10,
      3600,
      90,
      'Time a pod has to drain and stop when Kubernetes itself ends it, as in `kubectl drain`.',
    ),
  },
  'How a broker is emptied before it is removed or replaced.',
);

const service = section(
  {
    type: z
      .enum(['ClusterIP', 'NodePort', 'LoadBalancer'])
      .default('ClusterIP')
      .describe('Type of the Service.'),
    port: z.int().min(1).max(65_535).default(50_051).describe('Port of the gRPC services.'),
    annotations: names('Annotations of the Service, for cloud providers.'),
    labels: names('Labels of the Service.'),
    loadBalancerClass: z.string().max(253).optional().describe('Class of the load balancer.'),
    externalTrafficPolicy: z
      .enum(['Cluster', 'Local'])
      .optional()
      .describe('Whether traffic from outside stays on the node where it came in.'),
    advertise: z
      .boolean()
      .default(true)
      .describe(
        'Whether brokers tell clients their own addresses, so that those go straight to the owner of a mailbox. ' +
          'Off: all works through the Service alone, relayed by the brokers.',
      ),
  },
  'The Service through which agents reach the cluster. Any broker can be the first contact.',
);

const tls = ruled(
  z
    .object({
      secretName: objectName(
        'Secret with the keys tls.crt and tls.key (kubernetes.io/tls). The certificate should name the Service and ' +
          '`*.<cluster>-brokers.<namespace>.svc`.',
      ).optional(),
      issuerRef: z
        .object({
          name: objectName('Name of the issuer.'),
          kind: z
            .string()
            .min(1)
            .max(63)
            .default('Issuer')
            .describe('Its kind: Issuer, in the namespace of the cluster, or ClusterIssuer.'),
          group: z
            .string()
            .min(1)
            .max(253)
            .default('cert-manager.io')
            .describe('Its API group; other than this one for issuers that come from elsewhere.'),
        })
        .optional()
        .describe(
          'Issuer of cert-manager: the operator asks it for a certificate for the names of the Services, in the Secret ' +
            '`<cluster>-tls`, and cert-manager renews it.',
        ),
      dnsNames: z
        .array(z.string().min(1).max(253))
        .max(32)
        .default([])
        .describe('Further names in that certificate, as that of a load balancer.'),
      clientCa: secretKey(
        'ca.crt',
        'Authorities one of which must have signed the certificates that agents show.',
      ).optional(),
    })
    .optional()
    .describe(
      'Encrypts the gRPC and HTTP ports. When the contents of the Secrets change, brokers take them without a restart.',
    ),
  {
    rule: 'has(self.secretName) != has(self.issuerRef)',
    message:
      'give one of secretName, a certificate that you have, and issuerRef, one that cert-manager makes',
  },
  {
    rule: 'has(self.issuerRef) || !has(self.dnsNames) || self.dnsNames.size() == 0',
    message: 'dnsNames are for the certificate of issuerRef; that of secretName has its names already',
    fieldPath: '.dnsNames',
  },
);

const audience = z
  .array(z.string().min(1).max(512))
  .min(1)
  .max(16)
  .default(['agenthub'])
  .describe('For whom the tokens must be made (`aud`): one of these.');

const claim = (fallback: string, description: string) =>
  z.string().min(1).max(253).default(fallback).describe(description);

const jwt = ruled(
  z.object({
    issuer: z.string().min(1).max(512).describe('Who makes the tokens (`iss`), exactly as they say it.'),
    audience,
    jwksUrl: z
      .string()
      .min(1)
      .max(2048)
      .regex(/^https?:\/\/[^/]/)
      .optional()
      .describe('Where the issuer publishes its keys; brokers must be able to reach it.'),
    jwks: secretKey('jwks.json', 'Its keys, as a JSON Web Key Set; taken anew when they change.').optional(),
    ca: secretKey(
      'ca.crt',
      'Authorities that may sign the certificate of jwksUrl; unset: the public ones.',
    ).optional(),
    nameClaim: claim('sub', 'Claim with the name of the agent.'),
    groupsClaim: claim('groups', 'Claim with its groups.'),
    clockSkewSeconds: seconds(0, 3600, 30, 'How far the clock of the issuer may be off.'),
  }),
  {
    rule: 'has(self.jwks) != has(self.jwksUrl)',
    message: 'say where the keys of the issuer are: give one of jwksUrl and jwks',
  },
  {
    rule: 'has(self.jwksUrl) || !has(self.ca)',
    message: 'ca is for the certificate of jwksUrl; remove it, or give jwksUrl',
    fieldPath: '.ca',
  },
);

const serviceAccounts = z.object({
  audience,
  issuer: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .describe('Who makes the tokens here; unset: the operator asks the API server.'),
  clockSkewSeconds: seconds(0, 3600, 30, 'How far clocks may be off.'),
});

const clientCertificates = z.object({
  name: z
    .enum(['cn', 'dns', 'uri'])
    .default('cn')
    .describe(
      'What in a certificate names the agent: its common name, or the first alternative name of that kind.',
    ),
  required: z
    .boolean()
    .default(true)
    .describe('Whether every agent must show one, or may show a token instead.'),
});

const auth = ruled(
  section(
    {
      anonymous: z
        .boolean()
        .default(false)
        .describe('Lets in whoever reaches the Service, as an agent. Administration still needs a token.'),
      tokens: secretKey(
        'tokens',
        'Tokens of agents, one a line. Unset: the operator makes one, in the Secret `<cluster>-agent-token`, key token.',
      ).optional(),
      adminTokens: secretKey(
        'tokens',
        'Tokens of administrators, one a line, beside the one that the operator makes for itself.',
      ).optional(),
      jwt: ruled(
        jwt.optional().describe('Lets in who shows a token of an issuer (OIDC, JWT).'),
        ...(jwt.meta()?.['x-kubernetes-validations'] ?? []),
      ),
      serviceAccounts: serviceAccounts
        .optional()
        .describe(
          'Lets in pods that show the token of their service account. Brokers check it by the keys of the API server, for ' +
            'which they get a token of their own, and no right that others have not.',
        ),
      clientCertificates: clientCertificates
        .optional()
        .describe('Lets in who shows a certificate that one of `tls.clientCa` has signed.'),
      policy: secretKey(
        'policy.yaml',
        'Who may do what, as docs/access.md tells. Unset: agents are not kept apart. Brokers take a change without a restart.',
      ).optional(),
    },
    'Who is let in.',
  ),
  {
    rule: '!(self.anonymous && has(self.tokens))',
    message: 'anonymous lets everybody in: remove it, or remove tokens',
    fieldPath: '.anonymous',
  },
  {
    rule: '!(self.anonymous && (has(self.jwt) || has(self.serviceAccounts) || has(self.clientCertificates)))',
    message: 'anonymous lets everybody in: remove it, or remove jwt, serviceAccounts and clientCertificates',
    fieldPath: '.anonymous',
  },
);

const monitored = (what: string) =>
  section(
    {
      enabled: z
        .boolean()
        .default(false)
        .describe(`Whether to make a ${what}, if the cluster knows that kind.`),
      labels: names('Labels by which Prometheus finds it.'),
    },
    `${what} for this cluster.`,
  );

const monitoring = section(
  {
    public: z
      .boolean()
      .default(true)
      .describe('Whether `/metrics` and `/capacity` may be read without a token.'),
    intervalSeconds: seconds(5, 600, 30, 'Time between two scrapes.'),
    serviceMonitor: monitored('ServiceMonitor'),
    prometheusRule: monitored('PrometheusRule'),
  },
  'Prometheus. Dashboards for Grafana come with the chart, one set for all clusters (its value `dashboards`).',
);

const networkPolicy = section(
  {
    enabled: z.boolean().default(true).describe('Whether to make NetworkPolicies.'),
    agents: z
      .array(passedOn('A peer, as in a NetworkPolicy.'))
      .max(64)
      .default([])
      .describe('Who may reach the gRPC port; empty: everybody.'),
    http: z
      .array(passedOn('A peer, as in a NetworkPolicy.'))
      .max(64)
      .default([])
      .describe('Who may reach the HTTP port: Prometheus and the operator; empty: everybody.'),
  },
  'Who may reach what. NATS is reached by the brokers alone.',
);

const config = section(
  Object.fromEntries(
    (
      ['service', 'grpc', 'log', 'limits', 'session', 'delivery', 'retention', 'metrics', 'tracing'] as const
    ).map((name) => [name, passedOn(`Keys of the section \`${name}\`.`).optional()] as const),
  ),
  'Further configuration of the brokers, as in docs/configuration.md. What the operator sets itself (addresses, log, ' +
    'NATS, tokens, certificates) stays as it sets it.',
);

const patch = z.object({
  kind: z.string().min(1).max(63).describe('Kind of the object: `Service`.'),
  name: z.string().max(253).optional().describe('Its name; unset: all of that kind.'),
  patch: passedOn('What is laid over it, by the rules of `podTemplate`.'),
});

/** The wish: what a BrokerCluster is to be. Given defaults by the API server. */
export const specSchema = ruled(
  z
    .object({
      image: z
        .string()
        .min(1)
        .max(512)
        .optional()
        .describe(
          'Image of the brokers; unset: the one that the operator was installed with when the cluster was made, and ' +
            'then kept, so that an upgrade of the operator restarts no broker.',
        ),
      imagePullPolicy: z
        .enum(['Always', 'IfNotPresent', 'Never'])
        .default('IfNotPresent')
        .describe('When images are pulled.'),
      imagePullSecrets: z
        .array(objectName('Name of a Secret.'))
        .max(16)
        .default([])
        .describe('Secrets with which images are pulled.'),
      replicas: z
        .int()
        .min(0)
        .max(MAX_REPLICAS)
        .default(3)
        .describe(
          'Brokers of the pool without rules; `kubectl scale` sets it. With autoscaling.mode Auto only the number to ' +
            'begin with.',
        ),
      shards: fixed(
        z
          .int()
          .min(1)
          .max(MAX_SHARDS)
          .default(16)
          .describe('Shards of each pool: the most brokers that a pool can make use of. Fixed.'),
        'the log is laid out by them; make a new BrokerCluster and move agents there',
      ),
      pools: z
        .array(pool)
        .min(1)
        .max(16)
        .default(() => [pool.parse({ name: 'default' })])
        .describe('Groups of brokers. Most clusters need one.')
        .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] }),
      durability,
      nats,
      autoscaling,
      drain,
      update: section(
        {
          strategy: z
            .enum(['OneByOne', 'OnDelete'])
            .default('OneByOne')
            .describe(
              'OneByOne: brokers are drained and replaced one after the other. OnDelete: when you delete a pod.',
            ),
          progressDeadlineSeconds: seconds(
            30,
            3600,
            300,
            'Time a replaced broker has to become ready; else the roll stops.',
          ),
        },
        'How a changed spec reaches running brokers. The annotation `agenthub.io/pause-update: "true"` pauses it.',
      ),
      disruption: section(
        {
          maxUnavailable: z
            .int()
            .min(0)
            .max(MAX_REPLICAS)
            .default(1)
            .describe('Brokers of a pool that evictions may take away at a time; 0 blocks `kubectl drain`.'),
        },
        'What a PodDisruptionBudget allows.',
      ),
      service,
      tls,
      auth,
      monitoring,
      networkPolicy,
      config,
      podTemplate: passedOn(
        'Laid over the pod template of all brokers: labels, annotations, environment, sidecars, volumes. Objects are ' +
          'merged, lists of named things by name, other lists are replaced, null removes.',
      ).optional(),
      patches: z
        .array(patch)
        .max(64)
        .default([])
        .describe('Laid over objects that the operator makes, for whatever the spec has no field for.'),
    })
    .describe('What the cluster is to be.'),
  {
    rule: 'self.pools.all(p, self.pools.exists_one(q, q.name == p.name))',
    message: 'two pools have the same name; rename one',
    fieldPath: '.pools',
  },
  {
    rule: 'self.pools.exists_one(p, p.rules.size() == 0)',
    message: 'exactly one pool must have no rules: it takes the mailboxes that no rule matches',
    fieldPath: '.pools',
  },
  {
    rule: 'self.pools.all(p, p.maxReplicas <= (has(p.shards) ? p.shards : self.shards))',
    message:
      'maxReplicas of a pool must not be greater than its shards: brokers without a shard would have nothing to do; lower maxReplicas, or give a new cluster more shards',
    fieldPath: '.pools',
  },
  {
    rule: "self.autoscaling.mode == 'Auto' || self.pools.all(p, p.rules.size() > 0 || self.replicas <= (has(p.shards) ? p.shards : self.shards))",
    message:
      'replicas must not be greater than the number of shards: brokers without a shard would have nothing to do',
    fieldPath: '.replicas',
  },
  {
    rule: '!has(self.nats.managed) || self.durability.replicas <= self.nats.managed.servers',
    message:
      'durability.replicas must not be greater than nats.managed.servers: each server keeps one copy; lower the one or raise the other',
    fieldPath: '.durability',
  },
  {
    rule: '!has(self.auth.clientCertificates) || (has(self.tls) && has(self.tls.clientCa))',
    message:
      'auth.clientCertificates needs tls.clientCa: say which authorities sign the certificates of agents',
    fieldPath: '.auth',
  },
  {
    rule: 'oldSelf.pools.all(o, o.rules.size() > 0 || self.pools.exists(p, p.name == o.name && p.rules.size() == 0))',
    message: 'the pool without rules must stay: move mailboxes by giving other pools rules',
    fieldPath: '.pools',
  },
);

/** The spec with all its defaults. */
export type BrokerClusterSpec = Readonly<z.output<typeof specSchema>>;
/** One pool of it. */
export type PoolSpec = BrokerClusterSpec['pools'][number];
/** What autoscaling goes by. */
export type AutoscalingSpec = BrokerClusterSpec['autoscaling'];
