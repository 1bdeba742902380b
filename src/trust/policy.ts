import { z } from 'zod';
import { Glob } from '../core/glob.ts';
import { BROADCAST } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import type { Principal } from './principal.ts';

const MAX_RULES = 10_000;
const MAX_PATTERNS = 1000;
const MAX_PATTERN = 512;
const GROUP = 'group:';

const patterns = z.array(z.string().min(1).max(MAX_PATTERN)).max(MAX_PATTERNS);

const ruleSchema = z.strictObject({
  name: z.string().min(1).max(200).optional(),
  who: patterns.min(1),
  be: patterns.default([]),
  publish: patterns.default([]),
  types: patterns.min(1).default(['*']),
  work: patterns.default([]),
  read: patterns.default([]),
  manage: patterns.default([]),
  admin: patterns.default([]),
});

const policySchema = z.strictObject({ rules: z.array(ruleSchema).max(MAX_RULES) });

/** What a rule gives, apart from task types, which only narrow `publish`. */
export const GRANTS = ['be', 'publish', 'work', 'read', 'manage', 'admin'] as const;

/** One of {@link GRANTS}. */
export type Grant = (typeof GRANTS)[number];

/** One rule, ready to be asked. */
export interface Rule {
  /** From 1, as it stands in the file. */
  readonly number: number;
  /** `rule 3 (planners)`. */
  readonly label: string;
  readonly grants: Readonly<Record<Grant, Patterns>>;
  /** Task types that `publish` is for. */
  readonly types: Patterns;
}

/** A list of globs. */
export class Patterns {
  /** Whether one of them is `*`, which matches everything. */
  readonly all: boolean;
  private readonly literals: ReadonlySet<string>;
  private readonly globs: readonly Glob[];

  constructor(texts: readonly string[]) {
    const globs = texts.map((text) => new Glob(text));
    this.all = texts.includes('*');
    this.literals = new Set(globs.filter(({ literal }) => literal).map(({ pattern }) => pattern));
    this.globs = globs.filter(({ literal }) => !literal);
  }

  /** Whether one of them matches the text. A broadcast concerns everybody, so only `*` itself matches it. */
  matches(text: string): boolean {
    if (this.all || this.literals.has(text)) return true;
    return text !== BROADCAST && this.globs.some((glob) => glob.matches(text));
  }
}

/** Whom a list names: principals, and groups after `group:`. */
export class Who {
  private readonly names: Patterns;
  private readonly groups: Patterns;

  constructor(texts: readonly string[]) {
    this.names = new Patterns(texts.filter((text) => !text.startsWith(GROUP)));
    const groups = texts.filter((text) => text.startsWith(GROUP));
    this.groups = new Patterns(groups.map((text) => text.slice(GROUP.length)));
  }

  /** Whether it names that principal, or one of its groups. */
  has({ name, groups }: Pick<Principal, 'name' | 'groups'>): boolean {
    return this.names.matches(name) || groups.some((group) => this.groups.matches(group));
  }
}

/** Who may do what: rules that each give something to somebody. What no rule gives is refused. */
export class Policy {
  /** Where it comes from, for messages. */
  readonly source: string;
  private readonly rules: readonly {
    readonly rule: Rule;
    readonly who: Who;
  }[];

  private constructor(source: string, rules: z.output<typeof policySchema>['rules']) {
    this.source = source;
    this.rules = rules.map(({ name, who, types, ...grants }, index) => ({
      rule: {
        number: index + 1,
        label: `rule ${index + 1}${name === undefined ? '' : ` (${name})`}`,
        grants: {
          be: new Patterns(grants.be),
          publish: new Patterns(grants.publish),
          work: new Patterns(grants.work),
          read: new Patterns(grants.read),
          manage: new Patterns(grants.manage),
          admin: new Patterns(grants.admin),
        },
        types: new Patterns(types),
      },
      who: new Who(who),
    }));
  }

  /**
   * The policy that a document says.
   *
   * @param source where it comes from, for messages.
   * @throws HubError `invalid`, naming every fault and where it is.
   */
  static read(document: unknown, source: string): Policy {
    const result = policySchema.safeParse(document ?? {});
    if (result.success) return new Policy(source, result.data.rules);
    const faults = result.error.issues.map(({ path, message }) => `${spelled(path)}: ${message}`);
    throw new HubError('invalid', `${source} is no policy: ${faults.join('; ')}`, {
      field: spelled(result.error.issues[0]?.path ?? []),
    });
  }

  /** The rules that give something to that principal, in the order of the file. */
  rulesFor(principal: Pick<Principal, 'name' | 'groups'>): readonly Rule[] {
    return this.rules.filter(({ who }) => who.has(principal)).map(({ rule }) => rule);
  }
}

/** `rules[2].publish[0]` */
function spelled(path: readonly PropertyKey[]): string {
  const text = path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
  return text === '' ? 'it' : text;
}
