import { HubError } from '../std/errors.ts';
import { Glob } from './glob.ts';
import { bareName } from './namespace.ts';
import { checkName, home, parseMailbox, regionOf } from './shard.ts';

/** Agents `<prefix><number>`, the numbers from `first` to `last` and written without leading zeros. */
export interface AgentRange {
  /** Does not end with a digit. */
  readonly prefix: string;
  readonly first: number;
  readonly last: number;
}

/** Sends some mailboxes to a pool; which ones, exactly one of the other members says. */
export type PlacementRule =
  | { readonly pool: string; readonly range: AgentRange }
  /** A glob over whole agent ids, region included. */
  | { readonly pool: string; readonly agents: string }
  /** Agents whose id ends with `@<region>`. */
  | { readonly pool: string; readonly region: string }
  /**
   * A glob over task types. `spread` splits each such capability into that many mailboxes, which
   * may live in as many shards, at the price of the order among them. Default 1.
   */
  | { readonly pool: string; readonly taskTypes: string; readonly spread?: number };

/** Which pool a mailbox lives in: one document for the whole cluster. */
export interface PlacementRules {
  /** Raised by one with every change. */
  readonly version: number;
  /** The pool of what no rule matches. */
  readonly defaultPool: string;
  /** In order: the first that matches counts. */
  readonly rules: readonly PlacementRule[];
}

/** What the rules say of a mailbox. */
export interface Placement {
  readonly pool: string;
  /** How many mailboxes a capability is split into, see {@link lane}; 1 is not at all. */
  readonly spread: number;
}

/** The most mailboxes that a rule may split a capability into. */
export const MAX_SPREAD = 256;

const MAX_RULES = 10_000;
const POOL_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LANE = /~\d+$/;
const NO_RULE = Infinity;

/**
 * Placement rules made ready for many questions.
 *
 * Exact ids, ranges and regions are looked up; only globs are tried one by one, and only those that
 * come before the rule that was found so far.
 */
export class PlacementTable {
  readonly version: number;
  private readonly placements: readonly Placement[];
  private readonly otherwise: Placement;
  private readonly agents = new GlobIndex();
  private readonly taskTypes = new GlobIndex();
  private readonly regions = new Map<string, number>();
  private readonly ranges = new Map<string, { first: number; last: number; rule: number }[]>();

  /** @throws HubError `invalid` as {@link checkPlacementRules} does. */
  constructor(document: PlacementRules) {
    checkPlacementRules(document);
    this.version = document.version;
    this.otherwise = { pool: document.defaultPool, spread: 1 };
    this.placements = document.rules.map((rule) => ({
      pool: rule.pool,
      spread: 'taskTypes' in rule ? (rule.spread ?? 1) : 1,
    }));
    document.rules.forEach((rule, index) => {
      if ('agents' in rule) this.agents.add(rule.agents, index);
      else if ('taskTypes' in rule) this.taskTypes.add(rule.taskTypes, index);
      else if ('region' in rule) addFirst(this.regions, rule.region, index);
      else {
        const { prefix, first, last } = rule.range;
        const ranges = this.ranges.get(prefix) ?? [];
        ranges.push({ first, last, rule: index });
        this.ranges.set(prefix, ranges);
      }
    });
  }

  /**
   * Where a mailbox lives. Replies and dead letters live with what they belong to, and the parts of
   * a split capability where the whole would. A broadcast has no place; it gets the default pool. Rules go by names
   * without their namespaces.
   */
  place(mailbox: string): Placement {
    if (this.placements.length === 0) return this.otherwise;
    const owner = parseMailbox(home(bareName(mailbox)));
    let rule = NO_RULE;
    if (owner.kind === 'capability') rule = this.taskTypes.first(owner.taskType.replace(LANE, ''), NO_RULE);
    else if (owner.kind === 'agent') rule = this.ruleOfAgent(owner.agent);
    return rule === NO_RULE ? this.otherwise : this.placements[rule]!;
  }

  private ruleOfAgent(agent: string): number {
    let rule = this.ruleOfNumber(agent);
    if (this.regions.size > 0) rule = Math.min(rule, this.regions.get(regionOf(agent)) ?? NO_RULE);
    return this.agents.first(agent, rule);
  }

  private ruleOfNumber(agent: string): number {
    if (this.ranges.size === 0) return NO_RULE;
    let digits = agent.length;
    while (digits > 0 && isDigit(agent, digits - 1)) digits--;
    const leadingZero = agent[digits] === '0' && digits + 1 < agent.length;
    if (digits === agent.length || leadingZero) return NO_RULE;
    const number = Number(agent.slice(digits));
    const ranges = this.ranges.get(agent.slice(0, digits));
    const found = ranges?.find(({ first, last }) => first <= number && number <= last);
    return found?.rule ?? NO_RULE;
  }
}

/** Where a mailbox lives. For many mailboxes make a {@link PlacementTable}. */
export function place(mailbox: string, rules: PlacementRules): Placement {
  return new PlacementTable(rules).place(mailbox);
}

/**
 * The mailbox, of the `spread` into which a capability is split, that `number` chooses:
 * `type:ocr` → `type:ocr~0` to `type:ocr~<spread - 1>`. `number` is a non-negative integer. With a spread of 1, and for a mailbox that
 * is such a part already, the mailbox itself.
 */
export function lane(mailbox: string, spread: number, number: number): string {
  return spread === 1 || LANE.test(mailbox) ? mailbox : `${mailbox}~${number % spread}`;
}

/** What a mailbox is a part of, and which, if it looks like one: `type:ocr~3` → `type:ocr`, 3. */
export function laneOf(mailbox: string): { readonly base: string; readonly number: number } | undefined {
  const mark = LANE.exec(mailbox)?.index;
  return mark === undefined
    ? undefined
    : { base: mailbox.slice(0, mark), number: Number(mailbox.slice(mark + 1)) };
}

/**
 * Refuses rules that don't make sense.
 *
 * @throws HubError `invalid`, naming the member: `placement.rules[2].range.last`.
 */
export function checkPlacementRules(document: PlacementRules, field = 'placement'): void {
  const { version, defaultPool, rules } = document;
  checkInteger(version, 0, Number.MAX_SAFE_INTEGER, `${field}.version`);
  checkPool(defaultPool, `${field}.defaultPool`);
  if (rules.length > MAX_RULES) {
    throw invalid(`${field}.rules`, `has ${rules.length} rules; at most ${MAX_RULES} are allowed`);
  }
  rules.forEach((rule, index) => checkRule(rule, `${field}.rules[${index}]`));
}

function checkRule(rule: PlacementRule, field: string): void {
  checkPool(rule.pool, `${field}.pool`);
  const matchers = ['range', 'agents', 'region', 'taskTypes'].filter((member) => member in rule);
  if (matchers.length !== 1) {
    throw invalid(field, 'must have exactly one of range, agents, region, taskTypes');
  }
  if ('spread' in rule && !('taskTypes' in rule)) {
    throw invalid(`${field}.spread`, 'is for rules with taskTypes only: an agent has one mailbox');
  }
  if ('agents' in rule) {
    checkName(rule.agents, `${field}.agents`);
  } else if ('taskTypes' in rule) {
    checkName(rule.taskTypes, `${field}.taskTypes`);
    if (rule.spread !== undefined) checkInteger(rule.spread, 1, MAX_SPREAD, `${field}.spread`);
  } else if ('region' in rule) {
    checkName(rule.region, `${field}.region`);
    if (rule.region.includes('@')) throw invalid(`${field}.region`, 'must not contain "@"');
  } else {
    const { prefix, first, last } = rule.range;
    if (prefix !== '') checkName(prefix, `${field}.range.prefix`);
    if (isDigit(prefix, prefix.length - 1)) {
      throw invalid(`${field}.range.prefix`, 'must not end with a digit: the number starts after it');
    }
    checkInteger(first, 0, Number.MAX_SAFE_INTEGER, `${field}.range.first`);
    checkInteger(last, first, Number.MAX_SAFE_INTEGER, `${field}.range.last`);
  }
}

function checkPool(pool: string, field: string): void {
  if (!POOL_NAME.test(pool)) {
    throw invalid(field, 'must be 1 to 63 lower-case letters, digits and inner hyphens');
  }
}

function checkInteger(value: number, min: number, max: number, field: string): void {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw invalid(field, `must be an integer from ${min} to ${max}`);
  }
}

/** Patterns by the rule they come from, to find the first that matches. */
class GlobIndex {
  private readonly literals = new Map<string, number>();
  private readonly globs: { glob: Glob; rule: number }[] = [];

  /** To be called in the order of the rules. */
  add(pattern: string, rule: number): void {
    const glob = new Glob(pattern);
    if (glob.literal) addFirst(this.literals, pattern, rule);
    else this.globs.push({ glob, rule });
  }

  /** The first rule whose pattern matches, if it comes before `bound`; else `bound`. */
  first(text: string, bound: number): number {
    const found = Math.min(bound, this.literals.get(text) ?? NO_RULE);
    for (const { glob, rule } of this.globs) {
      if (rule >= found) break;
      if (glob.matches(text)) return rule;
    }
    return found;
  }
}

function addFirst(map: Map<string, number>, key: string, rule: number): void {
  if (!map.has(key)) map.set(key, rule);
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 0x30 && code <= 0x39;
}

function invalid(field: string, message: string): HubError {
  return new HubError('invalid', `${field}: ${message}`, { field });
}
