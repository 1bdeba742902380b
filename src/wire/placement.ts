import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PlacementRule, PlacementRules } from '../core/placement.ts';
import { checkPlacementRules } from '../core/placement.ts';
import { DEFAULT_POOL } from '../core/pools.ts';
import { HubError } from '../std/errors.ts';
import type { PlacementRule as RuleMessage } from './gen/agenthub/v1/admin_pb.ts';
import type { PlacementRuleSchema } from './gen/agenthub/v1/admin_pb.ts';

/** The members of `SetPlacementRequest` and `Placement` that are rules. */
interface RulesMessage {
  readonly version: bigint;
  readonly defaultPool: string;
  readonly rules: readonly RuleMessage[];
}

/** Rules as messages of `agenthub.v1`. */
export function writeRules({ version, defaultPool, rules }: PlacementRules) {
  return { version: BigInt(version), defaultPool, rules: rules.map(writeRule) };
}

/** @throws HubError `invalid` if they make no sense, naming the member. */
export function readRules({ version, defaultPool, rules }: RulesMessage): PlacementRules {
  const read = {
    version: Number(version),
    defaultPool: defaultPool === '' ? DEFAULT_POOL : defaultPool,
    rules: rules.map(readRule),
  };
  checkPlacementRules(read);
  return read;
}

function writeRule(rule: PlacementRule): MessageInitShape<typeof PlacementRuleSchema> {
  const { pool } = rule;
  if ('agents' in rule) return { pool, match: { case: 'agents', value: rule.agents } };
  if ('region' in rule) return { pool, match: { case: 'region', value: rule.region } };
  if ('taskTypes' in rule) {
    return { pool, match: { case: 'taskTypes', value: rule.taskTypes }, spread: rule.spread ?? 0 };
  }
  const { prefix, first, last } = rule.range;
  return { pool, match: { case: 'range', value: { prefix, first: BigInt(first), last: BigInt(last) } } };
}

function readRule({ pool, match, spread }: RuleMessage, index: number): PlacementRule {
  const split = spread === 0 ? {} : { spread };
  switch (match.case) {
    case 'range': {
      const { prefix, first, last } = match.value;
      return { pool, range: { prefix, first: Number(first), last: Number(last) }, ...split };
    }
    case 'agents':
      return { pool, agents: match.value, ...split };
    case 'region':
      return { pool, region: match.value, ...split };
    case 'taskTypes':
      return { pool, taskTypes: match.value, ...split };
    case undefined: {
      const field = `placement.rules[${index}]`;
      throw new HubError('invalid', `${field}: must have one of range, agents, region, task_types`, {
        field,
      });
    }
  }
}
