import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import { count, part } from '../support/proto.ts';
import type { SeededRandom } from '../support/random.ts';

const TEXTS = [
  '',
  'planner',
  'type:echo',
  'reply:a',
  'dead:a',
  '*',
  'a#b',
  'x'.repeat(300),
  '🙂'.repeat(70),
  '\u0000',
  '%',
];
const NUMBERS = [0, 1, -1, 2, 99, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 64n - 1n];

/** One of the items. */
export function pick<T>(random: SeededRandom, items: readonly T[]): T {
  return items[random.below(items.length)]!;
}

/** A message that its schema could mean, with values that nobody should: the fields that exist, in any number. */
export function messageOf(random: SeededRandom, schema: DescMessage, depth = 0): Buffer {
  const parts: Buffer[] = [];
  for (let fields = random.below(6); fields > 0 && schema.fields.length > 0; fields--) {
    parts.push(fieldOf(random, pick(random, schema.fields), depth));
  }
  return Buffer.concat(parts);
}

/** The same bytes, of which some are others, gone, or there twice. */
export function mutated(random: SeededRandom, bytes: Buffer): Buffer {
  let result = bytes;
  for (let changes = random.below(4); changes > 0; changes--) {
    const [from, to] = [random.below(result.length + 1), random.below(result.length + 1)].toSorted(
      (a, b) => a - b,
    );
    const [head, middle, tail] = [result.subarray(0, from), result.subarray(from, to), result.subarray(to)];
    const kind = random.below(4);
    if (kind === 0) result = Buffer.concat([head, tail]);
    else if (kind === 1) result = Buffer.concat([head, middle, middle, tail]);
    else if (kind === 2)
      result = Buffer.concat([head, Buffer.from(random.token(1 + random.below(8)), 'hex'), tail]);
    else if (result.length > 0) {
      result = Buffer.from(result);
      result[random.below(result.length)]! ^= 1 << random.below(8);
    }
  }
  return result;
}

function fieldOf(random: SeededRandom, field: DescField, depth: number): Buffer {
  // Now and then a value of another kind than the schema says.
  if (random.chance(0.05)) return random.chance(0.5) ? count(field.number, 1) : part(field.number, 'other');
  if (field.message !== undefined && field.fieldKind !== 'map') {
    return part(field.number, depth > 4 ? Buffer.alloc(0) : messageOf(random, field.message, depth + 1));
  }
  if (field.scalar === ScalarType.STRING) return part(field.number, pick(random, TEXTS));
  if (field.scalar === ScalarType.BYTES)
    return part(field.number, Buffer.from(random.token(random.below(40)), 'hex'));
  if (field.fieldKind === 'map') {
    return part(field.number, Buffer.concat([part(1, pick(random, TEXTS)), part(2, pick(random, TEXTS))]));
  }
  return count(field.number, pick(random, NUMBERS));
}
