import type { Context } from '../context.ts';
import { nameOf, NATS_PORTS, NATS_PREFIX } from '../context.ts';
import { natsPermissions, natsPermissionsText } from '../../../src/wire/nats-permissions.ts';
import { fingerprint } from '../fingerprint.ts';
import { parseQuantity } from '../quantity.ts';
import { natsHosts } from './broker-config.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** Where the servers keep what they keep. */
export const NATS_DATA = '/data';
/** The file that says which process to signal. */
export const NATS_PID = '/var/run/nats/nats.pid';
/** How long a server that is told to go takes to send its clients away, in seconds; the least that NATS takes. */
export const LAME_DUCK_SECONDS = 30;

const MAX_PAYLOAD = 8 * 2 ** 20;
/** The share of the volume that streams may fill; file systems and Raft logs need the rest. */
const STORE_SHARE = 0.85;

/** The configuration of the managed NATS servers; as that of brokers, it never changes under its name. */
export function natsConfig(context: Context): Child {
  const { cluster } = context;
  const text = natsConfigText(context);
  const about = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    name: `${nameOf.nats(cluster)}-${fingerprint(text)}`,
    component: 'nats',
  } as const;
  return child(cluster, about, { immutable: true, data: { 'nats.conf': text } });
}

/**
 * In the language of NATS; `$NAMES` are variables of the environment. Nothing in it is secret: it has the public keys of
 * those who may log in, and brokers may do there what they need and nothing else.
 */
export function natsConfigText({ cluster, natsKeys }: Context): string {
  const { durability, nats } = cluster.spec;
  const size = parseQuantity(nats.managed?.volume.size ?? 0) ?? 0;
  const hosts = natsHosts(cluster);
  const routes = hosts.map((name) => `    nats-route://${name}:${NATS_PORTS.cluster}`).join('\n');
  return `server_name: $POD_NAME
listen: "0.0.0.0:${NATS_PORTS.client}"
http: "0.0.0.0:${NATS_PORTS.monitor}"
pid_file: "${NATS_PID}"
max_payload: ${MAX_PAYLOAD}
lame_duck_grace_period: "10s"
lame_duck_duration: "${LAME_DUCK_SECONDS}s"
authorization {
  timeout: 5
}
accounts {
  AGENTHUB {
    jetstream: enabled
    users: [
${brokerUsers(natsKeys)}
    ]
  }
  SYS {
    users: [
      { nkey: ${natsKeys?.system ?? ''} }
    ]
  }
}
system_account: SYS
jetstream {
  store_dir: "${NATS_DATA}"
  max_file_store: ${Math.floor(size * STORE_SHARE)}
  sync_interval: ${durability.sync === 'always' ? 'always' : '"1s"'}
}
${
  hosts.length > 1
    ? `cluster {
  name: "${cluster.metadata.name}"
  listen: "0.0.0.0:${NATS_PORTS.cluster}"
  connect_retries: 120
  routes: [
${routes}
  ]
}
`
    : ''
}`;
}

/** While a credential is exchanged there are two, in an order that the exchange does not change. */
function brokerUsers(keys: Context['natsKeys']): string {
  const users = [keys?.current, keys?.next, keys?.former].filter((key) => key !== undefined).sort();
  const permissions = natsPermissionsText(natsPermissions(NATS_PREFIX), '      ');
  return users.map((key) => `      { nkey: ${key}, permissions: ${permissions} }`).join('\n');
}
