import type { ByteWriter } from './bytes.ts';
import { SpanReader } from './span-reader.ts';

/**
 * A message on a link between two brokers, little-endian: `u8 version | u8 kind | u8 role of the sender |
 * u32 start | u32 number | u48 frame | u48 ack | u8 length | sender`, then the body.
 */
const VERSION = 1;
const FRAME_AT = 11;
const ACK_AT = 17;

/** What a message on a link is for. */
export const LinkKind = { open: 1, opened: 2, data: 3, ack: 4, ping: 5, close: 6 } as const;
/** One of {@link LinkKind}. */
export type LinkKind = (typeof LinkKind)[keyof typeof LinkKind];

/** What a broker is on a link: it keeps sessions, or owns their mailboxes. Edges open links. */
export type LinkRole = 'edge' | 'owner';

/** The name of a link: a random number of the edge's start, and how many links it has opened since. */
export interface LinkName {
  readonly start: number;
  readonly number: number;
}

/** Writes the head of a message; {@link setLinkCounts} completes it. */
export function writeLinkHead(
  writer: ByteWriter,
  kind: LinkKind,
  role: LinkRole,
  { start, number }: LinkName,
  sender: string,
): void {
  writer.u8(VERSION);
  writer.u8(kind);
  writer.u8(role === 'edge' ? 0 : 1);
  writer.u32(start);
  writer.u32(number);
  writer.u48(0);
  writer.u48(0);
  const length = writer.claim(1);
  writer.setU8(length, writer.utf8(sender));
}

/**
 * Says in a head at the beginning of `message`: the number of this frame if it has data, else of the last one
 * that had, and that of the last one that was received.
 */
export function setLinkCounts(message: Buffer, frame: number, ack: number): void {
  message.writeUIntLE(frame, FRAME_AT, 6);
  message.writeUIntLE(ack, ACK_AT, 6);
}

/** The head of a message as it was read. One object is filled again and again. */
export class LinkHead implements LinkName {
  kind: LinkKind = LinkKind.close;
  role: LinkRole = 'edge';
  start = 0;
  number = 0;
  frame = 0;
  ack = 0;
  sender = '';
  /** Where the body begins. */
  body = 0;
  private readonly reader = new SpanReader('a message on a link');

  /** Throws HubError `corrupt` if it is none, or of another version. */
  read(message: Uint8Array): void {
    const { reader } = this;
    reader.open(message, 0, message.length);
    if (reader.u8() !== VERSION) throw reader.corrupt('has an unknown version');
    const kind = reader.u8();
    if (kind < LinkKind.open || kind > LinkKind.close) throw reader.corrupt(`is of the unknown kind ${kind}`);
    this.kind = kind as LinkKind;
    this.role = reader.u8() === 0 ? 'edge' : 'owner';
    this.start = reader.u32();
    this.number = reader.u32();
    this.frame = reader.u48();
    this.ack = reader.u48();
    const length = reader.u8();
    const at = reader.skip(length);
    this.sender = reader.bytes.toString('utf8', at, at + length);
    this.body = reader.at;
  }
}
