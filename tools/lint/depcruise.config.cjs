/**
 * Who may import whom. A folder sees itself, the folders named here, and packages; nothing else.
 * The roots (src/cli, src/main.ts, src/embedded.ts, src/index.ts) put the parts together and see all.
 */
const SEES = {
  std: [],
  core: ['std'],
  trust: ['std', 'core'],
  wire: ['std', 'core'],
  config: ['std'],
  obs: ['std', 'wire/capacity.ts', 'wire/trace-context.ts'],
  nats: ['std'],
  log: ['std', 'core', 'wire', 'nats'],
  cluster: ['std', 'core', 'wire', 'nats'],
  broker: ['std', 'core', 'wire', 'log', 'cluster', 'obs'],
  edge: ['std', 'core', 'trust', 'wire', 'log', 'cluster', 'broker', 'obs', 'config'],
  client: ['std', 'core', 'wire'],
};

const PURE = '^src/(std/(?!system\\.ts)|core/|trust/|wire/)';

const direction = Object.entries(SEES).map(([folder, sees]) => ({
  name: `${folder}-sees-only-${['itself', ...sees].join('-').replaceAll('/', '-')}`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: {
    path: '^(src|operator|test|examples|tools)/',
    pathNot: [folder, ...sees].map((name) => `^src/${name}${name.endsWith('.ts') ? '$' : '/'}`),
  },
}));

module.exports = {
  forbidden: [
    ...direction,
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'pure-code-has-no-io',
      comment: 'It would no longer be a function of its arguments.',
      severity: 'error',
      from: { path: PURE },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?(buffer|util)$' },
    },
    {
      name: 'src-stands-alone',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(operator|test|examples|tools)/' },
    },
    {
      name: 'operator-sees-only-std-core-wire',
      severity: 'error',
      from: { path: '^operator/' },
      to: { path: '^(src|test|examples|tools)/', pathNot: '^src/(std|core|wire)/' },
    },
    {
      name: 'plan-knows-no-kubernetes-client',
      severity: 'error',
      from: { path: '^operator/plan/' },
      to: { path: '^operator/kube/|^node_modules/@kubernetes/' },
    },
    {
      name: 'examples-use-the-public-names',
      comment: 'They show what a user of the package can write.',
      severity: 'error',
      from: { path: '^examples/' },
      to: { path: '^src/', pathNot: '^src/(index|embedded|client/index)\\.ts$' },
    },
    {
      name: 'nats-stays-behind-its-adapters',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(nats/[-a-z]+|log/jetstream[-a-z]*|cluster/nats[-a-z]*)\\.ts$' },
      to: { path: '^node_modules/nats/' },
    },
    {
      name: 'kubernetes-client-stays-in-operator-kube',
      severity: 'error',
      from: { path: '^(src|operator)/', pathNot: '^operator/kube/' },
      to: { path: '^node_modules/@kubernetes/' },
    },
    {
      name: 'src-needs-no-development-package',
      severity: 'error',
      from: { path: '^(src|operator)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'everything-resolves',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
