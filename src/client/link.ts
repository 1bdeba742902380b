import type { DescMessage, DescMethod, MessageShape } from '@bufbuild/protobuf';
import type { HubError } from '../std/errors.ts';

/** A method that takes one request and gives one response, as protobuf-es describes it. */
export type UnaryMethod<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly methodKind: 'unary';
  readonly input: I;
  readonly output: O;
};

/** One connection to a broker: one stream of frames, and calls beside it. */
export interface Link {
  /** Sends a frame. False: write no more until `drained` is called. */
  write(frame: Buffer): boolean;
  /** Sends what was written and ends the stream; `closed` follows. */
  end(): void;
  /** Breaks the connection off. No event follows. */
  destroy(): void;
  /** One call beside the stream. Rejects with {@link HubError}. */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
  ): Promise<MessageShape<O>>;
}

/** What a {@link Link} tells its session. */
export interface LinkEvents {
  /** A frame of the broker. Its memory is the receiver's from now on. */
  frame(bytes: Buffer): void;
  /** More may be written. */
  drained(): void;
  /** The stream has ended, for good; called once. Why is an error even if the broker meant it. */
  closed(error: HubError): void;
}

/** Makes connections. The real one is in `grpc.ts`. */
export interface Transport {
  open(address: string, events: LinkEvents): Link;
}
