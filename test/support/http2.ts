import type { Socket } from 'node:net';
import { connect } from 'node:net';

/** What a client of HTTP/2 says first. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** Types of frames (https://www.rfc-editor.org/rfc/rfc9113#section-6). */
export const Frame = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;

/** Flags of frames. */
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;

/** One frame, as it is or as it must not be. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A block of headers, each a literal that nobody has to remember (https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2). */
export function headerBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1');
    return Buffer.concat([integer(bytes.length, 7), bytes]);
  };
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)])));
}

/** The headers of a gRPC call. */
export function callHeaders(
  path: string,
  more: readonly (readonly [name: string, value: string])[] = [],
): readonly (readonly [name: string, value: string])[] {
  return [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ...more,
  ];
}

/** A gRPC message with its five bytes before it, of which the length may be a lie. */
export function grpcMessage(bytes: Uint8Array, { compressed = false, length = bytes.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed ? 1 : 0, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

/** The parameters of a frame of settings. */
export function settings(pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  return Buffer.concat(
    pairs.map(([id, value]) => {
      const entry = Buffer.alloc(6);
      entry.writeUInt16BE(id, 0);
      entry.writeUInt32BE(value, 2);
      return entry;
    }),
  );
}

/** Four bytes. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A connection on which a test says what it likes. */
export class RawConnection {
  readonly socket: Socket;
  /** When the server has ended it, or it has broken. */
  readonly closed: Promise<void>;
  isClosed = false;
  /** Types of the frames that came. */
  readonly frames = new Map<number, number>();
  /** The error codes of GOAWAY frames that came. */
  readonly goaways: number[] = [];
  private rest: Buffer = Buffer.alloc(0);

  /** Connects to a port of this machine, says the preface and, if it is not told otherwise, empty settings. */
  static async open(port: number, { greet = true } = {}): Promise<RawConnection> {
    const socket = connect({ host: '127.0.0.1', port });
    const connection = new RawConnection(socket);
    await new Promise<void>((resolve) => {
      socket.once('connect', resolve);
      socket.once('close', () => resolve());
    });
    if (greet) void connection.write(PREFACE, frame(Frame.settings, 0, 0));
    return connection;
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        this.isClosed = true;
        resolve();
      }),
    );
  }

  /** Writes, and resolves when there is room for more or the connection is closed. */
  async write(...parts: readonly Uint8Array[]): Promise<void> {
    if (this.isClosed || this.socket.destroyed) return;
    if (this.socket.write(Buffer.concat(parts))) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.socket.off('drain', done);
        this.socket.off('close', done);
        resolve();
      };
      this.socket.on('drain', done);
      this.socket.on('close', done);
    });
  }

  /** Opens a call, and leaves it open. */
  call(
    stream: number,
    path: string,
    more: readonly (readonly [string, string])[] = [],
    flags = END_HEADERS,
  ): Promise<void> {
    return this.write(frame(Frame.headers, flags, stream, headerBlock(callHeaders(path, more))));
  }

  destroy(): void {
    this.socket.destroy();
  }

  private read(chunk: Buffer): void {
    let bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    while (bytes.length >= 9) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) break;
      const type = bytes.readUInt8(3);
      this.frames.set(type, (this.frames.get(type) ?? 0) + 1);
      // Who does not answer pings is taken for dead.
      if (type === Frame.ping && (bytes.readUInt8(4) & ACK) === 0) {
        void this.write(frame(Frame.ping, ACK, 0, bytes.subarray(9, 17)));
      }
      if (type === Frame.goaway) this.goaways.push(bytes.readUInt32BE(9 + 4));
      bytes = bytes.subarray(9 + length);
    }
    this.rest = bytes;
  }
}

/** https://www.rfc-editor.org/rfc/rfc7541#section-5.1, with the first bits zero. */
function integer(value: number, bits: number): Buffer {
  const most = 2 ** bits - 1;
  if (value < most) return Buffer.of(value);
  const bytes = [most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}
