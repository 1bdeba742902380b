import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';

/** What stands before the 32 bytes of a key in the two forms that Node.js knows (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_LENGTH = 12;
/** `SU`: the seed of a user; `U`: its public key. */
const SEED_OF_USER = Buffer.from([0x95, 0x00]);
const USER = Buffer.from([0xa0]);
const KEY_BYTES = 32;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** A new seed of a user of NATS, which nobody can guess (https://github.com/nats-io/nkeys). */
export function newNatsSeed(): string {
  return encode(SEED_OF_USER, randomBytes(KEY_BYTES));
}

/** The public key of the user whose seed that is; `undefined` if it is none. */
export function natsPublicKey(seed: string): string | undefined {
  const bytes = decode(seed.trim());
  if (bytes === undefined || !bytes.subarray(0, SEED_OF_USER.length).equals(SEED_OF_USER)) return undefined;
  const key = bytes.subarray(SEED_OF_USER.length);
  if (key.length !== KEY_BYTES) return undefined;
  const secret = createPrivateKey({ key: Buffer.concat([PKCS8, key]), format: 'der', type: 'pkcs8' });
  const open = createPublicKey(secret).export({ format: 'der', type: 'spki' });
  return encode(USER, open.subarray(SPKI_LENGTH));
}

function encode(prefix: Buffer, key: Buffer): string {
  const bytes = Buffer.concat([prefix, key]);
  const sum = crc16(bytes);
  return base32(Buffer.concat([bytes, Buffer.from([sum & 0xff, sum >> 8])]));
}

function decode(text: string): Buffer | undefined {
  const bytes = fromBase32(text);
  const body = bytes?.subarray(0, -2);
  return body !== undefined && bytes!.readUInt16LE(body.length) === crc16(body) ? body : undefined;
}

/** CRC-16 as XMODEM has it. */
function crc16(bytes: Buffer): number {
  let sum = 0;
  for (const byte of bytes) {
    sum ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) sum = ((sum << 1) ^ (sum & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return sum;
}

/** RFC 4648, without padding. */
function base32(bytes: Buffer): string {
  let text = '';
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += ALPHABET[(held >> (bits - 5)) & 31];
  }
  return bits === 0 ? text : text + ALPHABET[(held << (5 - bits)) & 31];
}

function fromBase32(text: string): Buffer | undefined {
  const bytes: number[] = [];
  let bits = 0;
  let held = 0;
  for (const letter of text) {
    const value = ALPHABET.indexOf(letter);
    if (value === -1) return undefined;
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((held >> bits) & 0xff);
  }
  return bytes.length < 3 ? undefined : Buffer.from(bytes);
}
