import { createHash } from 'node:crypto';
import type { Clock, Random } from '../../src/std/clock.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import { isNotFound } from '../kube/errors.ts';
import type { Kube } from '../kube/kube.ts';
import { host, INTERNAL_KEYS, LABEL, nameOf, PORTS } from '../plan/context.ts';
import type { NatsKeys } from '../plan/nats-keys.ts';
import { NATS_KEYS } from '../plan/nats-keys.ts';
import { managesPlacement } from '../plan/placement.ts';
import type { SecretView, Snapshot } from '../plan/plan.ts';
import { viewPod } from '../plan/pods.ts';
import type { PodObject, PodView } from '../plan/pods.ts';
import { secretReferences } from '../plan/resources/secrets.ts';
import type { Obstacle } from '../plan/verdicts.ts';
import { parseTime } from '../plan/words.ts';
import type { PodAddress, Pods } from '../pods.ts';
import type { Answers } from './answers.ts';
import type { Caches } from './caches.ts';
import { natsPublicKey, newNatsSeed } from './nkeys.ts';
import { NODE, SECRET } from './kinds.ts';
import type { NodeObject, SecretObject } from './kinds.ts';

/** What is needed to observe a cluster. */
export interface ObserverOptions {
  readonly kube: Kube;
  readonly caches: Caches;
  readonly answers: Answers;
  readonly pods: Pick<Pods, 'placement'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly defaultImages: Snapshot['defaultImages'];
  /** Whether nodes may be read, to find out which pods are lost. */
  readonly nodes: boolean;
}

/** A cluster as it was found. */
export interface Observation {
  readonly snapshot: Snapshot;
  /** How each pod is asked. */
  readonly addressOf: (pod: PodView) => PodAddress | undefined;
}

/** Secrets and nodes are read again after this time, in milliseconds. */
const READ_AGAIN_MS = 20_000;
/** Who signs tokens is asked again after this time, in milliseconds. */
const ISSUER_MS = 600_000;
const TOKEN_BYTES = 24;

interface Read<T> {
  readonly at: number;
  readonly object: T;
}

/** Finds out all that a plan follows from. */
export class Observer {
  readonly #options: ObserverOptions;
  readonly #secrets = new Map<string, Read<SecretObject>>();
  readonly #nodes = new Map<string, Read<NodeObject>>();
  #issuer: Read<string> | undefined;

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  /** @throws HubError if something can't be observed: then nothing must be done. */
  async observe(
    cluster: BrokerCluster,
    obstacles: readonly Obstacle[],
    signal: AbortSignal,
  ): Promise<Observation> {
    const { caches, clock, random, answers, defaultImages } = this.#options;
    const { name, namespace, uid } = cluster.metadata;
    const secrets = await this.#readSecrets(cluster, signal);
    const pods = caches.podsOf(namespace, name);
    const addressOf = this.#addresses(cluster, secrets, pods);
    const asked = pods.flatMap((pod) => {
      const address = addressOf(pod.metadata.name);
      return isBroker(pod) && address !== undefined ? [{ uid: pod.metadata.uid ?? '', address }] : [];
    });
    const [told, lost] = await Promise.all([answers.ask(asked, signal), this.#lostNodes(pods, signal)]);
    const view = (pod: PodObject, container: string): PodView[] => {
      const node = pod.spec?.nodeName;
      const found = viewPod(
        pod,
        clock.now(),
        container,
        told.get(pod.metadata.uid ?? ''),
        node === undefined ? undefined : lost.get(node),
      );
      return found === undefined ? [] : [found];
    };
    const byPool: Record<string, PodView[]> = {};
    for (const pod of pods.filter(isBroker)) {
      const pool = pod.metadata.labels?.[LABEL.pool] ?? '';
      (byPool[pool] ??= []).push(...view(pod, 'broker'));
    }
    const children = caches.ownedBy(uid);
    const placement = managesPlacement(cluster, children)
      ? await this.#placement(Object.values(byPool).flat(), addressOf, signal)
      : undefined;
    const snapshot: Snapshot = {
      now: clock.now(),
      cluster,
      kinds: {
        serviceMonitor: caches.childrenOf('ServiceMonitor') !== undefined,
        prometheusRule: caches.childrenOf('PrometheusRule') !== undefined,
        certificate: caches.childrenOf('Certificate') !== undefined,
      },
      defaultImages,
      children,
      pods: byPool,
      natsPods: pods.filter((pod) => !isBroker(pod)).flatMap((pod) => view(pod, 'nats')),
      secrets: Object.fromEntries([...secrets].map(([key, secret]) => [key, viewSecret(secret)])),
      natsKeys: natsKeysOf(cluster, secrets),
      issuer: await this.#issuerFor(cluster, signal),
      placement,
      foreignAutoscalers: caches.autoscalersOf(namespace, name),
      obstacles,
      token: () => random.token(TOKEN_BYTES),
      natsSeed: newNatsSeed,
    };
    return { snapshot, addressOf: (pod) => addressOf(pod.name) };
  }

  /** Forgets what was read of the Secrets of a cluster: they have just been made. */
  forget({ metadata: { namespace } }: BrokerCluster): void {
    for (const key of this.#secrets.keys()) if (key.startsWith(`${namespace}/`)) this.#secrets.delete(key);
  }

  async #readSecrets(cluster: BrokerCluster, signal: AbortSignal): Promise<Map<string, SecretObject>> {
    const { namespace } = cluster.metadata;
    const names = new Set([
      nameOf.internalSecret(cluster),
      nameOf.agentSecret(cluster),
      ...(cluster.spec.nats.managed === undefined
        ? []
        : [nameOf.natsCredentials(cluster), nameOf.natsSystem(cluster)]),
      ...secretReferences(cluster).map(({ name }) => name),
    ]);
    const { kube } = this.#options;
    const found = new Map<string, SecretObject>();
    for (const name of names) {
      const read = (): Promise<SecretObject> => kube.get(SECRET, { namespace, name }, { signal });
      const secret = await this.#read(this.#secrets, `${namespace}/${name}`, read);
      if (secret !== undefined) found.set(name, secret);
    }
    return found;
  }

  /** Who signs the tokens of service accounts, if the cluster needs to know; what was heard once stays. */
  async #issuerFor({ spec }: BrokerCluster, signal: AbortSignal): Promise<string | undefined> {
    const { serviceAccounts } = spec.auth;
    if (serviceAccounts === undefined || serviceAccounts.issuer !== undefined) return undefined;
    const { kube, clock } = this.#options;
    if (this.#issuer !== undefined && clock.now() - this.#issuer.at < ISSUER_MS) return this.#issuer.object;
    try {
      const path = '/.well-known/openid-configuration';
      const { issuer } = await kube.raw<{ readonly issuer?: string }>({ method: 'GET', path, signal });
      if (issuer !== undefined) this.#issuer = { at: clock.now(), object: issuer };
    } catch {
      // It may not be allowed to ask: then somebody has to say it.
    }
    return this.#issuer?.object;
  }

  /** Nodes that have not been heard of, and since when; asked only about pods that don't work. */
  async #lostNodes(pods: readonly PodObject[], signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const lost = new Map<string, number>();
    const { kube, nodes } = this.#options;
    if (!nodes) return lost;
    const doubtful = pods.filter(({ status, metadata }) => {
      const ready = status?.conditions?.find(({ type }) => type === 'Ready')?.status === 'True';
      return !ready || metadata.deletionTimestamp !== undefined;
    });
    for (const name of new Set(
      doubtful.flatMap(({ spec }) => (spec?.nodeName === undefined ? [] : [spec.nodeName])),
    )) {
      const node = await this.#read(this.#nodes, name, () => kube.get(NODE, { name }, { signal }));
      const ready = node?.status?.conditions?.find(({ type }) => type === 'Ready');
      // One that is not there any more is lost for good.
      if (node === undefined) lost.set(name, 0);
      else if (ready?.status === 'Unknown') lost.set(name, parseTime(ready.lastTransitionTime) ?? Infinity);
    }
    return lost;
  }

  /** What the first broker says that answers. */
  async #placement(
    pods: readonly PodView[],
    addressOf: (pod: string) => PodAddress | undefined,
    signal: AbortSignal,
  ): Promise<Snapshot['placement']> {
    for (const { ready, deleting, name } of pods) {
      const address = ready && !deleting ? addressOf(name) : undefined;
      if (address === undefined) continue;
      try {
        return await this.#options.pods.placement(address, signal);
      } catch {
        // Another one knows it as well.
      }
    }
    return undefined;
  }

  /** What is not there is asked for every time; what is there, now and then. */
  async #read<T>(cache: Map<string, Read<T>>, key: string, get: () => Promise<T>): Promise<T | undefined> {
    const now = this.#options.clock.now();
    const known = cache.get(key);
    if (known !== undefined && now - known.at < READ_AGAIN_MS) return known.object;
    try {
      const object = await get();
      cache.set(key, { at: now, object });
      return object;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      cache.delete(key);
      return undefined;
    }
  }

  #addresses(
    cluster: BrokerCluster,
    secrets: ReadonlyMap<string, SecretObject>,
    pods: readonly PodObject[],
  ): (pod: string) => PodAddress | undefined {
    const { tls } = cluster.spec;
    const token = text(secrets.get(nameOf.internalSecret(cluster)), INTERNAL_KEYS.adminToken);
    const certificate = tls === undefined ? undefined : secrets.get(nameOf.certificate(cluster));
    const ca = text(certificate, 'ca.crt') ?? text(certificate, 'tls.crt');
    const ips = new Map(pods.map(({ metadata, status }) => [metadata.name, status?.podIP]));
    return (pod) => {
      const ip = ips.get(pod);
      if (ip === undefined) return undefined;
      const serverName = `${pod}.${host(cluster, nameOf.brokers(cluster))}`;
      return { ip, port: PORTS.http, token, tls: tls === undefined ? undefined : { ca, serverName } };
    };
  }
}

function isBroker({ metadata }: PodObject): boolean {
  return metadata.labels?.[LABEL.component] === 'broker';
}

function text(secret: SecretObject | undefined, key: string): string | undefined {
  const value = secret?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8');
}

/** The public side of what is in the Secrets of managed NATS; `undefined` if that is not all there. */
function natsKeysOf(
  cluster: BrokerCluster,
  secrets: ReadonlyMap<string, SecretObject>,
): NatsKeys | undefined {
  const credentials = secrets.get(nameOf.natsCredentials(cluster));
  const publicKey = (secret: SecretObject | undefined, key: string): string | undefined =>
    natsPublicKey(text(secret, key) ?? '');
  const current = publicKey(credentials, NATS_KEYS.seed);
  const system = publicKey(secrets.get(nameOf.natsSystem(cluster)), NATS_KEYS.seed);
  if (current === undefined || system === undefined) return undefined;
  return {
    current,
    next: publicKey(credentials, NATS_KEYS.next),
    former: publicKey(credentials, NATS_KEYS.former),
    rotation: text(credentials, NATS_KEYS.rotation) ?? '',
    system,
  };
}

function viewSecret({ metadata, data = {} }: SecretObject): SecretView {
  const keys = Object.keys(data).sort();
  const hash = createHash('sha256').update(metadata.uid ?? '');
  for (const key of keys) hash.update(`\0${key}\0${data[key] ?? ''}`);
  return { keys, fingerprint: hash.digest('base64url').slice(0, 12) };
}
