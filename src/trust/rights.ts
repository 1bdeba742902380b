import { bareName, DEFAULT_NAMESPACE, isIn, NAMESPACE_MARK } from '../core/namespace.ts';
import { laneOf } from '../core/placement.ts';
import { BROADCAST, home, parseMailbox } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import type { Grant, Policy, Rule } from './policy.ts';
import type { Principal } from './principal.ts';

/** Acts of administration that concern one namespace alone. */
const OWN_ACTS: ReadonlySet<string> = new Set([
  'listMailboxes',
  'listAgents',
  'replayDeadLetters',
  'purgeMailbox',
  'stats',
  'describeCluster',
]);

/** Answers that are remembered, of each kind; beyond that they are forgotten, and worked out again. */
const REMEMBERED = 65_536;

/** What somebody wants to do, in the words of a policy. */
export type Act =
  | { readonly does: Exclude<Grant, 'publish'>; readonly to: string }
  | { readonly does: 'publish'; readonly to: string; readonly type: string; readonly requester: string };

/** Whether it is allowed, and why. */
export interface Verdict {
  readonly allowed: boolean;
  /** The number of the rule that allows it; 0: none does, or none is needed. */
  readonly rule: number;
  /** For people: the deciding rule, or that there is none. */
  readonly why: string;
}

/** What rights there are without rules. */
type Blanket = 'everything' | 'all but administration' | undefined;

/**
 * What one principal may do.
 *
 * An agent's own mailboxes follow from being the agent: `planner`, `reply:planner` and the dead letters of both.
 * Who works on a capability may read it. Answers are remembered, so that asking again costs next to nothing.
 */
export class Rights {
  /** The name of the principal. */
  readonly who: string;
  /** Whether each task has to be asked about. */
  readonly limited: boolean;
  /** In which it may do that, and nowhere else. */
  private readonly namespace: string;
  private readonly blanket: Blanket;
  private readonly source: string;
  private readonly rules: readonly Rule[];
  private readonly agents = new Map<string, Rule | undefined>();
  private readonly mailboxes = new Map<string, readonly Rule[]>();
  private lastMailbox = '';
  private lastType = '';
  private lastRequester = '';

  private constructor(
    who: string,
    namespace: string,
    blanket: Blanket,
    source: string,
    rules: readonly Rule[],
  ) {
    this.who = who;
    this.namespace = namespace;
    this.blanket = blanket;
    this.limited = blanket === undefined;
    this.source = source;
    this.rules = rules;
  }

  /**
   * What the principal may do by that policy. Without one, agents may do everything but administer. With one, who
   * showed the token of an administrator may still do everything.
   *
   * @param namespace where it may do that. Rules go by names without their namespace; of what is in another one,
   *   nothing is allowed.
   */
  static of(principal: Principal, policy: Policy | undefined, namespace = principal.namespace): Rights {
    const { name, role, source } = principal;
    if (policy === undefined) {
      const blanket = role === 'admin' ? 'everything' : 'all but administration';
      return new Rights(name, namespace, blanket, '', []);
    }
    if (role === 'admin' && source === 'token')
      return new Rights(name, namespace, 'everything', policy.source, []);
    return new Rights(name, namespace, undefined, policy.source, policy.rulesFor(principal));
  }

  /** Whether it may do that, and by which rule. Names are those inside of the cluster. */
  judge(named: Act): Verdict {
    const act = this.inside(named);
    if (act === undefined) return { allowed: false, rule: 0, why: 'it is in another namespace' };
    if (act.does === 'admin' && !this.administers(act.to)) {
      return {
        allowed: false,
        rule: 0,
        why: 'it concerns all namespaces: only who is in the default one may',
      };
    }
    if (this.blanket === 'everything')
      return { allowed: true, rule: 0, why: `${this.who} is an administrator` };
    if (this.blanket !== undefined) {
      return act.does === 'admin' && act.to !== 'metrics'
        ? { allowed: false, rule: 0, why: 'only an administrator may' }
        : { allowed: true, rule: 0, why: 'there is no policy, so agents may' };
    }
    if (act.does === 'publish' && act.requester !== '' && !this.beRule(act.requester)) {
      return this.denied(`it names ${act.requester} as the requester, which no rule lets ${this.who} be`);
    }
    const rule = this.ruleFor(act);
    return rule
      ? { allowed: true, rule: rule.number, why: `${rule.label} of ${this.source}` }
      : this.denied(undefined);
  }

  /** Throws HubError `permission`, naming the field and the rules, if it may not do that. */
  require(act: Act, field: string): void {
    const refusal = this.refusal(act, field);
    if (refusal) throw refusal;
  }

  /** The error of {@link require}, or `undefined` if it may. */
  refusal(act: Act, field: string): HubError | undefined {
    if (this.unbounded) return undefined;
    const { allowed, why } = this.judge(act);
    return allowed
      ? undefined
      : new HubError('permission', `${this.who} may not ${wordsOf(this.inside(act) ?? act)}: ${why}`, {
          field,
        });
  }

  /** Whether it may do that. */
  may(act: Act): boolean {
    return this.unbounded || this.judge(act).allowed;
  }

  /**
   * Whether it may publish that; the hot one, for rights that are {@link limited}: tasks come in runs, and what was
   * allowed to the last one is to the next.
   */
  publishes(mailbox: string, type: string, requester: string): boolean {
    if (mailbox === this.lastMailbox && type === this.lastType && requester === this.lastRequester)
      return true;
    const to = this.ownName(mailbox);
    const by = this.ownName(requester);
    if (to === undefined || by === undefined) return false;
    if (by !== '' && !this.beRule(by)) return false;
    if (!this.publishRule(to, type)) return false;
    this.lastMailbox = mailbox;
    this.lastType = type;
    this.lastRequester = requester;
    return true;
  }

  /** Whether it may publish tasks of any type there. */
  reaches(mailbox: string): boolean {
    const name = this.ownName(mailbox);
    return name !== undefined && (!this.limited || this.fitting(name).length > 0);
  }

  /** The mailbox is its own: an agent's that it may be, or a capability that it works on. */
  owns(mailbox: string): boolean {
    const name = this.ownName(mailbox);
    return name !== undefined && (!this.limited || this.ownRule(name) !== undefined);
  }

  /** There is nothing that it may not do. */
  private get unbounded(): boolean {
    return this.blanket === 'everything' && this.namespace === DEFAULT_NAMESPACE;
  }

  /** Whether it may be allowed that act of administration at all. */
  private administers(verb: string): boolean {
    return this.namespace === DEFAULT_NAMESPACE || OWN_ACTS.has(verb);
  }

  /** The name as rules have it; `undefined`: it is of another namespace. */
  private ownName(name: string): string | undefined {
    if (name === '' || name === BROADCAST) return name;
    if (this.namespace === DEFAULT_NAMESPACE) return name.includes(NAMESPACE_MARK) ? undefined : name;
    return isIn(this.namespace, name) ? bareName(name) : undefined;
  }

  /** The act with names as rules have them; `undefined`: it concerns another namespace. */
  private inside(act: Act): Act | undefined {
    if (act.does === 'admin') return act;
    const to = this.ownName(act.to);
    if (to === undefined) return undefined;
    if (act.does !== 'publish') return { ...act, to };
    const requester = this.ownName(act.requester);
    return requester === undefined ? undefined : { ...act, to, requester };
  }

  private ruleFor(act: Act): Rule | undefined {
    const { to } = act;
    switch (act.does) {
      case 'be':
        return this.beRule(to);
      case 'publish':
        return this.publishRule(to, act.type);
      case 'work':
        return this.ownRule(to);
      case 'read':
        return this.ownRule(to) ?? this.granting('read', wholeOf(to));
      case 'manage':
        return this.agentsOwn(to) ?? this.granting('manage', wholeOf(livingOf(to)));
      case 'admin':
        return this.granting('admin', to);
    }
  }

  /** Of what is split, a part counts as the whole. */
  private ownRule(part: string): Rule | undefined {
    const mailbox = wholeOf(part);
    return (
      this.agentsOwn(mailbox) ?? (mailbox.startsWith('type:') ? this.granting('work', mailbox) : undefined)
    );
  }

  private agentsOwn(mailbox: string): Rule | undefined {
    const agent = home(mailbox);
    return mailbox !== BROADCAST && parseMailbox(agent).kind === 'agent' ? this.beRule(agent) : undefined;
  }

  private beRule(agent: string): Rule | undefined {
    const known = this.agents.get(agent);
    if (known !== undefined) return known;
    const rule = this.granting('be', agent);
    if (rule) remember(this.agents, agent, rule);
    return rule;
  }

  private publishRule(mailbox: string, type: string): Rule | undefined {
    for (const rule of this.fitting(mailbox)) if (rule.types.all || rule.types.matches(type)) return rule;
    return undefined;
  }

  /** Rules that let it publish there, if the type of the task is right. */
  private fitting(mailbox: string): readonly Rule[] {
    const known = this.mailboxes.get(mailbox);
    if (known !== undefined) return known;
    const fitting = this.rules.filter(({ grants }) => grants.publish.matches(mailbox));
    remember(this.mailboxes, mailbox, fitting);
    return fitting;
  }

  private granting(grant: Grant, text: string): Rule | undefined {
    return this.rules.find(({ grants }) => grants[grant].matches(text));
  }

  private denied(why: string | undefined): Verdict {
    const { rules, source, who } = this;
    const labels = rules.slice(0, 5).map(({ number }) => number);
    const numbers = `${labels.join(', ')}${rules.length > labels.length ? ', …' : ''}`;
    const which =
      rules.length === 0
        ? `no rule of ${source} names ${who}`
        : `no rule of ${source} allows it; those that name ${who}: ${numbers}`;
    return { allowed: false, rule: 0, why: why === undefined ? which : `${why} (${which})` };
  }
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  if (map.size >= REMEMBERED) map.clear();
  map.set(key, value);
}

/** The capability, or its dead letters, that a mailbox is a part of, if it is one; agents are not split. */
function wholeOf(mailbox: string): string {
  return home(mailbox).startsWith('type:') ? (laneOf(mailbox)?.base ?? mailbox) : mailbox;
}

/** What dead letters were before. */
function livingOf(mailbox: string): string {
  return mailbox.startsWith('dead:') ? mailbox.slice('dead:'.length) : mailbox;
}

function wordsOf(act: Act): string {
  const { to } = act;
  switch (act.does) {
    case 'be':
      return `be the agent ${to}`;
    case 'publish':
      if (to === BROADCAST) return 'publish to all agents (publish: ["*"] would allow it)';
      return `publish ${act.type === '' ? 'tasks without a type' : `tasks of type ${act.type}`} to ${to}`;
    case 'work':
      return `work on ${to}`;
    case 'read':
      return to === BROADCAST ? 'read all mailboxes; name one, or a requester that it may be' : `read ${to}`;
    case 'manage':
      return `cancel, replay or purge what is in ${to}`;
    case 'admin':
      return `${to} (an act of administration)`;
  }
}
