import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connect } from '../../src/client/index.ts';
import { KubeCluster } from '../support/kube.ts';
import { AGENTHUB_IMAGE } from '../support/kube/images.ts';

let cluster: KubeCluster;

beforeAll(async () => {
  cluster = await KubeCluster.up({ nodes: 2 });
});

afterAll(() => cluster.down());

const BROKER = `
apiVersion: v1
kind: Service
metadata: { name: broker }
spec: { selector: { app: broker }, ports: [{ port: 50051 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: broker, labels: { app: broker } }
spec:
  nodeName: node2
  containers:
    - name: broker
      image: ${AGENTHUB_IMAGE}
      args: [serve, --data-log, memory, --insecure, --grpc-host, 0.0.0.0, --http-host, 0.0.0.0]
      readinessProbe: { httpGet: { path: /readyz, port: 8080 }, periodSeconds: 1 }
      securityContext:
        runAsNonRoot: true
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: { drop: [ALL] }
`;

test('every node is ready', async () => {
  const path =
    'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}';
  expect(await cluster.kubectl('get', 'nodes', '--output', path)).toBe('node1=True node2=True ');
});

test('a broker in a pod works for clients that come through its Service', async () => {
  await cluster.apply(BROKER);
  await cluster.kubectl('wait', '--for=condition=Ready', '--timeout=60s', 'pod/broker');
  const address = `127.0.0.1:${await cluster.forward('broker', 50051)}`;
  await using worker = await connect({ address, agent: 'worker' });
  await worker.work('type:echo', (task) => task.text());
  await using requester = await connect({ address, agent: 'requester' });
  const result = await requester.request({ capability: 'echo', payload: 'hello' });
  expect({ executor: result.executor, text: result.text() }).toEqual({ executor: 'worker', text: 'hello' });
});

test('a node is given up when it is cut off or without power, and comes back', async () => {
  const becomes = (status: string): Promise<string> =>
    cluster.kubectl('wait', `--for=condition=Ready=${status}`, '--timeout=60s', 'node/node2');
  const node = cluster.node(2);
  await node.cut();
  await becomes('Unknown');
  await node.heal();
  await becomes('True');
  await node.off();
  await becomes('Unknown');
  await node.on();
  await becomes('True');
});
