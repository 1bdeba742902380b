/** What a chunk of a request has completed. */
export interface Passed {
  /** Bytes of the messages that are complete now, with all that came of them before. */
  readonly taken: number;
  /** Bytes of compressed messages that begin in the chunk, as they were announced. */
  readonly compressed: number;
}

const HEAD_BYTES = 5;

/**
 * Walks over the messages of a gRPC request without looking into them
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Length-Prefixed-Message").
 */
export class MessageWalk {
  /** Messages that were complete. */
  messages = 0;
  /** Bytes of the head that have come, and its length as far as it is known. */
  private head = 0;
  private length = 0;
  private flag = 0;
  /** Bytes of the message that are to come. */
  private missing = 0;

  pass(chunk: Uint8Array): Passed {
    let taken = 0;
    let compressed = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.head < HEAD_BYTES) {
        const byte = chunk[at++]!;
        if (this.head === 0) [this.flag, this.length] = [byte, 0];
        else this.length = this.length * 256 + byte;
        if (++this.head < HEAD_BYTES) continue;
        this.missing = this.length;
        if (this.flag === 1) compressed += this.length;
      } else {
        const step = Math.min(this.missing, chunk.length - at);
        this.missing -= step;
        at += step;
      }
      if (this.missing > 0) continue;
      taken += HEAD_BYTES + this.length;
      this.messages++;
      this.head = 0;
    }
    return { taken, compressed };
  }
}
