import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connect } from '../../src/client/index.ts';
import { Crew } from '../support/crew.ts';
import { until } from '../support/inbox.ts';
import { KubeCluster } from '../support/kube.ts';
import { AGENTHUB_IMAGE, NATS_IMAGE } from '../support/kube/images.ts';
import { Ledger } from '../support/ledger.ts';
import { SeededRandom } from '../support/random.ts';

/** What a user would type, but for images of this machine and for a smaller appetite. */
const HUB = `
apiVersion: agenthub.io/v1alpha1
kind: BrokerCluster
metadata: { name: hub }
spec:
  autoscaling: { mode: 'Off' }
  durability: { replicas: 1 }
  nats:
    managed:
      servers: 1
      volume: { size: 1Gi, onDelete: Delete }
      resources: { requests: { cpu: 200m, memory: 128Mi }, limits: { memory: 512Mi } }
  pools:
    - name: default
      resources: { requests: { cpu: 200m, memory: 128Mi }, limits: { memory: 512Mi } }
  config:
    delivery: { maxAttempts: 1000, backoffInitialMs: 1ms }
`;
const SMALL = { requests: { cpu: '200m', memory: '128Mi' }, limits: { memory: '512Mi' } };
const NAMESPACE = 'agents';
const OPERATOR = 'operator';
const SHARED = 'type:chaos';
const CREWS = 2;
/** Tasks that must go through before, and again after, whatever happens under load. */
const FLOW = 300;
const PATIENCE = '--timeout=280s';

const random = new SeededRandom(Number(process.env['SEED'] ?? 7));
let cluster: KubeCluster;
let address: string;
let token: string;
let crewCount = 0;

beforeAll(async () => {
  cluster = await KubeCluster.up({ nodes: 3 });
  await cluster.kubectl('create', 'namespace', NAMESPACE);
});

afterAll(() => cluster?.down());

const kubectl = (...args: string[]): Promise<string> => cluster.kubectl('--namespace', NAMESPACE, ...args);

/** As `kubectl wait` does; if it is in vain, says all that a person would look at. */
async function wait(...args: string[]): Promise<void> {
  try {
    await kubectl('wait', PATIENCE, ...args);
  } catch (error) {
    const told = await Promise.allSettled([
      kubectl('describe', 'brokerclusters'),
      kubectl('get', 'pods', '--output', 'wide'),
      cluster.kubectl('--namespace', OPERATOR, 'logs', 'deployment/agenthub-operator', '--tail=40'),
    ]);
    const texts = told.map((one) => (one.status === 'fulfilled' ? one.value : String(one.reason)));
    throw new Error([(error as Error).message, ...texts].join('\n'), { cause: error });
  }
}

/** Waits until the operator says that all is as the spec says, with so many brokers. */
async function settled(brokers: number): Promise<void> {
  await wait('bc/hub', `--for=jsonpath={.status.ready}=${brokers}/${brokers}`);
  await wait('bc/hub', '--for=condition=Progressing=False');
}

const scale = (brokers: number): Promise<string> => kubectl('scale', 'bc/hub', `--replicas=${brokers}`);

async function field(object: string, path: string): Promise<string> {
  return await kubectl('get', object, '--output', `jsonpath={${path}}`);
}

/** Whatever happens meanwhile: every task that was acknowledged is done, and its result arrives. */
async function underLoad(happens: () => Promise<void>): Promise<void> {
  const ledger = new Ledger(() => false);
  const crews = await Promise.all(
    Array.from({ length: CREWS }, () =>
      Crew.start(`crew-${++crewCount}`, address, SHARED, ledger, random, token),
    ),
  );
  const flows = async (): Promise<void> => {
    const before = ledger.ended;
    await until(() => ledger.ended >= before + FLOW || ledger.faults.length > 0);
  };
  try {
    await flows();
    await happens();
    await flows();
    await Promise.all(crews.map((crew) => crew.rest()));
    await until(() => ledger.missing().length === 0 || ledger.faults.length > 0);
    expect(ledger.faults).toEqual([]);
    expect(ledger.ended).toBe(ledger.acknowledged);
  } finally {
    await Promise.all(crews.map((crew) => crew.close()));
  }
}

test('one helm install and one object are a cluster that is ready', async () => {
  await cluster.exec('helm', [
    ...['install', 'agenthub', 'charts/agenthub', '--namespace', OPERATOR, '--create-namespace'],
    ...['--set', 'cluster.enabled=false', '--set', `image.tag=dev,natsImage=${NATS_IMAGE}`],
    ...['--wait', '--timeout', '170s'],
  ]);
  await cluster.apply(HUB, NAMESPACE);
  await wait('bc/hub', '--for=condition=Available');
  await settled(3);
  const [head, row] = (await kubectl('get', 'bc')).split('\n').map((line) => line.split(/\s+/));
  expect(head!.slice(0, 4)).toEqual(['NAME', 'READY', 'DESIRED', 'BROKERS']);
  expect(row!.slice(0, 4)).toEqual(['hub', '3/3', '3', '3']);
  expect(await field('bc/hub', '.status.phase')).toBe('Ready');
  expect(await field('bc/hub', '.status.conditions[?(@.type=="Degraded")].status')).toBe('False');
});

test('agents in and outside of its network work through the Service, with the token that was made', async () => {
  address = `127.0.0.1:${await cluster.forward('hub', 50_051, NAMESPACE)}`;
  token = Buffer.from(await field('secret/hub-agent-token', '.data.token'), 'base64').toString();
  await using worker = await connect({ address, token, agent: 'outside' });
  await worker.work('outside', (task) => task.text().toUpperCase());
  const inPod = await kubectl(
    ...['exec', 'hub-default-0', '--', 'env', 'AGENTHUB_CLIENT_HOST=hub', `AGENTHUB_CLIENT_TOKEN=${token}`],
    ...['agenthub', 'task', 'publish', 'outside', 'hello', '--wait'],
  );
  expect(inPod).toContain('HELLO');
  await expect(connect({ address, token: 'a-token-that-nobody-gave', agent: 'a' })).rejects.toMatchObject({
    code: 'unauthenticated',
  });
});

test('brokers go and come under load, as kubectl scale says', async () => {
  await underLoad(async () => {
    await scale(2);
    await settled(2);
    await scale(3);
    await settled(3);
  });
});

test('a pod that is deleted under load, and a broker that is killed, lose nothing', async () => {
  await underLoad(async () => {
    await kubectl('delete', 'pod', 'hub-default-1');
    await wait('pod/hub-default-1', '--for=condition=Ready');
    await settled(3);
    await cluster.exec('sh', ['-c', kill('hub-default-2')]);
    await wait('pod/hub-default-2', '--for=jsonpath={.status.containerStatuses[0].restartCount}=1');
    await wait('pod/hub-default-2', '--for=condition=Ready');
    await settled(3);
  });
});

/** From inside, process 1 can't be killed. */
function kill(pod: string): string {
  return `for p in /proc/[0-9]*; do
    tr '\\0' '\\n' <$p/environ 2>/dev/null | grep -qx POD_NAME=${pod} && kill -9 \${p#/proc/}
  done; true`;
}

test('a changed configuration reaches one broker after the other under load', async () => {
  const made = (): Promise<string> => field('pods', '.items[*].metadata.uid');
  const before = (await made()).split(' ');
  await underLoad(async () => {
    const change = { spec: { config: { limits: { batchTasks: 5000 } } } };
    await kubectl('patch', 'bc/hub', '--type=merge', `--patch=${JSON.stringify(change)}`);
    let rolled = false;
    const rolling = settled(3).finally(() => (rolled = true));
    while (!rolled) {
      const ready = await field('statefulset/hub-default', '.status.readyReplicas');
      expect(Number(ready)).toBeGreaterThanOrEqual(2);
      await setTimeout(500);
    }
    await rolling;
  });
  // All but that of NATS.
  expect((await made()).split(' ').filter((uid) => before.includes(uid))).toHaveLength(1);
});

const change = (spec: object): Promise<string> =>
  kubectl('patch', 'bc/hub', '--type=merge', `--patch=${JSON.stringify({ spec })}`);

test('an image that can not be had stops the update under load, and the other brokers go on', async () => {
  await underLoad(async () => {
    await change({ image: 'agenthub:nobody-has-this' });
    await wait('bc/hub', '--for=condition=Degraded');
    const reason = await field('bc/hub', '.status.conditions[?(@.type=="Degraded")].reason');
    expect(reason).toMatch(/Err?ImagePull|ImagePullBackOff/);
    expect(await field('statefulset/hub-default', '.status.readyReplicas')).toBe('2');
    // Without an image the one that is there stays.
    await change({ image: AGENTHUB_IMAGE });
    await wait('bc/hub', '--for=condition=Degraded=False');
    await settled(3);
  });
});

test('a node that is drained under load gives its brokers up one after the other', async () => {
  const node = await field('pod/hub-default-0', '.spec.nodeName');
  await underLoad(async () => {
    const only = ['--pod-selector=agenthub.io/pool=default', '--delete-emptydir-data', '--ignore-daemonsets'];
    await cluster.kubectl('drain', node, ...only, PATIENCE);
    expect(await field('pods', `.items[?(@.spec.nodeName=="${node}")].metadata.name`)).not.toContain(
      'hub-default',
    );
    await cluster.kubectl('uncordon', node);
    await settled(3);
  });
});

test('NATS that is killed under load comes back with all that it had acknowledged', async () => {
  await underLoad(async () => {
    await cluster.exec('sh', ['-c', kill('hub-nats-0')]);
    await wait('pod/hub-nats-0', '--for=jsonpath={.status.containerStatuses[0].restartCount}=1');
    await wait('pod/hub-nats-0', '--for=condition=Ready');
    await settled(3);
  });
});

test('tasks move to a pool of their own under load, and back when it is taken out', async () => {
  const main = { name: 'default', resources: SMALL };
  const pool = {
    name: 'chaos',
    resources: SMALL,
    minReplicas: 1,
    replicas: 1,
    rules: [{ taskTypes: 'chaos' }],
  };
  await underLoad(async () => {
    await change({ pools: [main, pool] });
    await settled(4);
    expect(await field('bc/hub', '.status.placement.rules')).toBe('1');
    await change({ pools: [main] });
    await settled(3);
    expect(await field('statefulsets', '.items[*].metadata.name')).not.toContain('hub-chaos');
  });
});

test('brokers become more under load, and fewer when it is over', async () => {
  const targets = { tasksPerSecond: 50, agents: 0, cpuPercent: 0, memoryPercent: 0 };
  const fast = { stabilizationWindowSeconds: 0, policies: [{ type: 'Pods', value: 2, periodSeconds: 5 }] };
  const autoscaling = { mode: 'Auto', intervalSeconds: 5, targets, scaleUp: fast, scaleDown: fast };
  const pools = [{ name: 'default', resources: SMALL, minReplicas: 2, maxReplicas: 4 }];
  await underLoad(async () => {
    await change({ autoscaling, pools });
    await wait('bc/hub', '--for=jsonpath={.status.ready}=4/4');
  });
  await wait('bc/hub', '--for=jsonpath={.status.ready}=2/2');
  await change({ autoscaling: { mode: 'Off' }, pools: [{ name: 'default', resources: SMALL }] });
  await settled(3);
});

test('an operator that ends in the middle of a scale-down is replaced by one that finishes it', async () => {
  await underLoad(async () => {
    await scale(2);
    await wait('bc/hub', '--for=condition=Draining=True');
    await cluster.kubectl('--namespace', OPERATOR, 'delete', 'pods', '--all', '--grace-period=0', '--force');
    await settled(2);
  });
});

test('uninstalling hangs nowhere and leaves nothing', async () => {
  await kubectl('delete', 'bc/hub', PATIENCE);
  const kinds = 'all,configmaps,secrets,serviceaccounts,pvc,pdb,networkpolicies';
  const mine = ['--selector', 'agenthub.io/cluster=hub', '--output', 'name'];
  await until(async () => (await kubectl('get', kinds, ...mine)) === '');
  await cluster.exec('helm', [
    'uninstall',
    'agenthub',
    '--namespace',
    OPERATOR,
    '--wait',
    '--timeout',
    '170s',
  ]);
  await cluster.kubectl('delete', 'crd', 'brokerclusters.agenthub.io', PATIENCE);
  await cluster.kubectl('delete', 'namespace', NAMESPACE, OPERATOR, PATIENCE);
  const roles = await cluster.kubectl('get', 'clusterroles,clusterrolebindings', '--output', 'name');
  expect(roles).not.toContain('agenthub');
});
