import { BROADCAST, checkMailbox, deadMailbox, replyMailbox, capabilityMailbox } from './shard.ts';

/*
 * A namespace is a part of a cluster whose agents, capabilities and tasks nobody else sees. Inside of the cluster
 * every name says which one it belongs to:
 *
 * | in its namespace  | inside of the cluster  |
 * | ----------------- | ---------------------- |
 * | `planner@eu-west` | `acme␟planner@eu-west` |
 * | `type:ocr`        | `type:acme␟ocr`        |
 * | `reply:planner#7` | `reply:acme␟planner#7` |
 * | `dead:type:ocr`   | `dead:type:acme␟ocr`   |
 * | `*`               | `acme␟*`               |
 *
 * Names of the default namespace are the same on both sides. The mark is a control character, which no name that
 * anybody gives may have, so that none of them can be mistaken for one of another namespace.
 */

/** Stands between a namespace and a name: the unit separator of ASCII. */
export const NAMESPACE_MARK = '\u001f';

/** The namespace of who has none. */
export const DEFAULT_NAMESPACE = '';

/** How people call the default namespace. */
export const DEFAULT_NAMESPACE_WORD = 'default';

const NAMESPACE = /^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$/;

/** What a namespace may be called. */
export const NAMESPACE_ADVICE =
  'a namespace has 1 to 63 lower-case letters, digits and inner "-", "_" and ".", and is not "default" or "other"';

/**
 * Whether that can be the name of a namespace, apart from the default one. `default` and `other` have a meaning
 * already; every namespace of Kubernetes but its `default` is one.
 */
export function isNamespace(text: string): boolean {
  return NAMESPACE.test(text) && text !== DEFAULT_NAMESPACE_WORD && text !== 'other';
}

/** The name that a mailbox or an agent of that namespace has inside of the cluster. It must not have one already. */
export function qualified(namespace: string, name: string): string {
  if (namespace === DEFAULT_NAMESPACE) return name;
  const start = prefixEnd(name);
  return name.slice(0, start) + namespace + NAMESPACE_MARK + name.slice(start);
}

/** The namespace that a name inside of the cluster belongs to. */
export function namespaceOf(name: string): string {
  const mark = name.indexOf(NAMESPACE_MARK);
  return mark < 0 ? DEFAULT_NAMESPACE : name.slice(namespaceStart(name, mark), mark);
}

/** The name without its namespace. */
export function bareName(name: string): string {
  const mark = name.indexOf(NAMESPACE_MARK);
  return mark < 0 ? name : name.slice(0, namespaceStart(name, mark)) + name.slice(mark + 1);
}

/** Whether a name inside of the cluster belongs to that namespace. */
export function isIn(namespace: string, name: string): boolean {
  if (namespace === DEFAULT_NAMESPACE) return !name.includes(NAMESPACE_MARK);
  return namespaceOf(name) === namespace;
}

/** What stands for every agent of the namespace that the name belongs to. */
export function broadcastBeside(name: string): string {
  return name.includes(NAMESPACE_MARK) ? qualified(namespaceOf(name), BROADCAST) : BROADCAST;
}

/** Whether a name inside of the cluster stands for every agent of its namespace. */
export function isBroadcast(name: string): boolean {
  return name === BROADCAST || (name.endsWith(NAMESPACE_MARK + BROADCAST) && bareName(name) === BROADCAST);
}

/** As `checkMailbox`, for a name inside of the cluster. */
export function checkQualified(name: string, field: string): void {
  checkMailbox(bareName(name), field);
}

const PREFIXES = [deadMailbox(''), replyMailbox(''), capabilityMailbox('')];

/** Where the name of the agent or the capability begins. */
function prefixEnd(name: string): number {
  let start = 0;
  for (const prefix of PREFIXES) if (name.startsWith(prefix, start)) start += prefix.length;
  return start;
}

/** What stands before a namespace ends with a colon, and a namespace has none. */
function namespaceStart(name: string, mark: number): number {
  return name.lastIndexOf(':', mark) + 1;
}
