import { z } from 'zod';
import {
  DEFAULT_NAMESPACE,
  DEFAULT_NAMESPACE_WORD,
  isNamespace,
  NAMESPACE_ADVICE,
} from '../core/namespace.ts';
import { HubError } from '../std/errors.ts';
import { Who } from './policy.ts';
import type { Principal } from './principal.ts';

const MAX_NAMESPACES = 10_000;
const MAX_PATTERNS = 1000;
const MAX_PATTERN = 512;
/** Stands for every namespace that has no entry of its own. */
const REST = '*';

const most = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional();

const namespaceSchema = z.strictObject({
  name: z
    .string()
    .refine(
      (name) => isNamespace(name) || name === REST || name === DEFAULT_NAMESPACE_WORD,
      NAMESPACE_ADVICE,
    ),
  who: z.array(z.string().min(1).max(MAX_PATTERN)).max(MAX_PATTERNS).default([]),
  weight: z.number().int().min(1).max(1000).default(1),
  limits: z
    .strictObject({ agents: most, sessions: most, queued: most, queuedBytes: most, tasksPerSecond: most })
    .default({}),
});

const documentSchema = z.strictObject({ namespaces: z.array(namespaceSchema).max(MAX_NAMESPACES) });

/** How much of each there may be of a namespace; `Infinity`: as much as there is of everybody. */
export interface NamespaceLimits {
  readonly agents: number;
  readonly sessions: number;
  /** Tasks, results and dead letters that wait in its mailboxes. */
  readonly queued: number;
  readonly queuedBytes: number;
  readonly tasksPerSecond: number;
}

/** What is said of a namespace. */
export interface NamespaceTerms {
  /** Its share of a busy broker, beside those of others. */
  readonly weight: number;
  readonly limits: NamespaceLimits;
  /** Whether there is any limit. */
  readonly limited: boolean;
}

const UNLIMITED: NamespaceLimits = {
  agents: Infinity,
  sessions: Infinity,
  queued: Infinity,
  queuedBytes: Infinity,
  tasksPerSecond: Infinity,
};
const NO_TERMS: NamespaceTerms = { weight: 1, limits: UNLIMITED, limited: false };

/** Which principals are in which namespace, and what each namespace may take. */
export class Namespaces {
  /** Where nothing is said of any. */
  static readonly none = new Namespaces([]);
  private readonly members: readonly { readonly namespace: string; readonly who: Who }[];
  private readonly terms: ReadonlyMap<string, NamespaceTerms>;
  /** Principals that were asked about: the same come again and again. */
  private readonly known = new WeakMap<object, string>();

  private constructor(entries: z.output<typeof documentSchema>['namespaces']) {
    this.members = entries
      .filter(({ who }) => who.length > 0)
      .map(({ name, who }) => ({ namespace: idOf(name), who: new Who(who) }));
    this.terms = new Map(
      entries.map(({ name, weight, limits }) => [
        idOf(name),
        {
          weight,
          limits: { ...UNLIMITED, ...defined(limits) },
          limited: Object.keys(defined(limits)).length > 0,
        },
      ]),
    );
  }

  /**
   * The namespaces that a document says.
   *
   * @param source where it comes from, for messages.
   * @throws HubError `invalid`, naming every fault and where it is.
   */
  static read(document: unknown, source: string): Namespaces {
    const result = documentSchema.safeParse(document ?? {});
    const faults = result.success
      ? faultsOf(result.data.namespaces)
      : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    if (result.success && faults.length === 0) return new Namespaces(result.data.namespaces);
    throw new HubError('invalid', `${source} does not say namespaces: ${faults.join('; ')}`);
  }

  /** Whether nothing is said of any. */
  get empty(): boolean {
    return this.terms.size === 0;
  }

  /** The namespace of that principal: of the first entry that names it, else the default one. */
  of(principal: Pick<Principal, 'name' | 'groups'>): string {
    if (this.members.length === 0) return DEFAULT_NAMESPACE;
    let namespace = this.known.get(principal);
    if (namespace === undefined) {
      namespace = this.members.find(({ who }) => who.has(principal))?.namespace ?? DEFAULT_NAMESPACE;
      this.known.set(principal, namespace);
    }
    return namespace;
  }

  /** What is said of that namespace, or of all that nothing is said of. */
  termsOf(namespace: string): NamespaceTerms {
    const own = this.terms.get(namespace);
    if (own) return own;
    // The default one is there for everybody: what is said of strangers does not concern it.
    return (namespace === DEFAULT_NAMESPACE ? undefined : this.terms.get(REST)) ?? NO_TERMS;
  }
}

function faultsOf(entries: z.output<typeof documentSchema>['namespaces']): string[] {
  const seen = new Set<string>();
  return entries.flatMap(({ name, who }) => {
    if (seen.has(name)) return [`${name} is there twice`];
    seen.add(name);
    return name === REST && who.length > 0 ? ['* is no namespace that somebody could be in'] : [];
  });
}

function idOf(name: string): string {
  return name === DEFAULT_NAMESPACE_WORD ? DEFAULT_NAMESPACE : name;
}

function defined<T extends object>(limits: T): Partial<NamespaceLimits> {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
