import { ScalarType } from '@bufbuild/protobuf';
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { checkUtf8, malformed, Scanner } from './scanner.ts';

/** Messages inside of messages, at most. A level of JSON in a Struct takes three of them. */
const MAX_DEPTH = 300;

interface Rule {
  readonly name: string;
  readonly wireType: number;
  readonly isText: boolean;
  /** The rules of the message that the field holds. */
  readonly inner: Rules | undefined;
}

/** By field number. */
type Rules = (Rule | undefined)[];

/**
 * Says whether bytes are a well-formed message of one type, without decoding it: known fields have
 * their wire types, text is UTF-8, messages end where they say. Who passes bytes on untouched looks
 * at them with this first, because a malformed message would end the stream of everybody who gets it.
 */
export class WellFormed {
  private readonly rules: Rules;
  private readonly scanners: Scanner[] = [];

  constructor(schema: DescMessage) {
    this.rules = rulesOf(schema, new Map());
  }

  /** @throws HubError `invalid`, naming the field, unless `bytes[start, end)` are well-formed. */
  check(bytes: Uint8Array, start: number, end: number): void {
    this.walk(bytes, start, end, this.rules, 0);
  }

  private walk(bytes: Uint8Array, start: number, end: number, rules: Rules, depth: number): void {
    if (depth > MAX_DEPTH) throw malformed(`it has more than ${MAX_DEPTH} messages inside of each other`);
    const scanner = (this.scanners[depth] ??= new Scanner());
    scanner.open(bytes, start, end);
    while (scanner.next()) {
      const rule = rules[scanner.field];
      if (rule === undefined) continue;
      if (scanner.wireType !== rule.wireType)
        throw malformed(`${rule.name} has the wrong wire type`, rule.name);
      if (rule.inner) this.walk(bytes, scanner.start, scanner.stop, rule.inner, depth + 1);
      else if (rule.isText) checkUtf8(bytes, scanner.start, scanner.stop, rule.name);
    }
  }
}

function rulesOf(schema: DescMessage, known: Map<DescMessage, Rules>): Rules {
  const made = known.get(schema);
  if (made) return made;
  const rules: Rules = [];
  known.set(schema, rules);
  for (const field of schema.fields) rules[field.number] = ruleOf(field, known);
  return rules;
}

function ruleOf(field: DescField, known: Map<DescMessage, Rules>): Rule | undefined {
  const { name } = field;
  if (field.fieldKind === 'map') {
    const key = scalarRule(`${name} key`, field.mapKey);
    const value = field.message
      ? messageRule(name, field.message, known)
      : scalarRule(name, field.scalar ?? ScalarType.INT32);
    return { name, wireType: 2, isText: false, inner: [undefined, key, value] };
  }
  if (field.message) return messageRule(name, field.message, known);
  const rule = scalarRule(name, field.scalar ?? ScalarType.INT32);
  // Numbers in a list may stand one by one or packed; either is skipped as it is.
  return field.fieldKind === 'list' && rule.wireType !== 2 ? undefined : rule;
}

function messageRule(name: string, schema: DescMessage, known: Map<DescMessage, Rules>): Rule {
  return { name, wireType: 2, isText: false, inner: rulesOf(schema, known) };
}

function scalarRule(name: string, type: ScalarType): Rule {
  return { name, wireType: wireTypeOf(type), isText: type === ScalarType.STRING, inner: undefined };
}

/** https://protobuf.dev/programming-guides/encoding/#structure */
function wireTypeOf(type: ScalarType): number {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return 2;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    default:
      return 0;
  }
}
