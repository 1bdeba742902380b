/** Hand-made protobuf, for what no encoder would write (https://protobuf.dev/programming-guides/encoding/). */
export function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 0x80);
    rest >>= 7n;
  }
  return Buffer.from([...bytes, Number(rest)]);
}

/** A length-delimited field. */
export function part(field: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

/** A varint field. */
export function count(field: number, value: number | bigint): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

/** Two bytes that are no UTF-8. */
export const NO_TEXT = Buffer.of(0xc3, 0x28);

/** Messages that no decoder takes, whatever their type. */
export const MALFORMED: readonly (readonly [string, Buffer])[] = [
  ['cut in a field', Buffer.of(0x0a, 0x05, 0x61)],
  ['cut in a number', Buffer.of(0x08, 0x80)],
  ['a field number 0', Buffer.of(0x02, 0x00)],
  ['a wire type 7', Buffer.of(0x0f, 0x00)],
  ['a number of 11 bytes', Buffer.concat([Buffer.of(0x08), Buffer.alloc(10, 0xff), Buffer.of(0x01)])],
  ['a length beyond all memory', Buffer.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f)],
];
