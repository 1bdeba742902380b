import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import type { TlsOptions } from '../client/dial.ts';
import { dial } from '../client/dial.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { unaryMethod } from '../wire/service.ts';
import { errorOf } from '../wire/status.ts';

/** Where a broker is, and how to be let in. */
export interface Target {
  readonly address: string;
  readonly token: string | undefined;
  readonly namespace?: string | undefined;
  readonly tls: TlsOptions | undefined;
}

/** A method that takes one request and gives one response. */
export type UnaryMethod<I extends DescMessage, O extends DescMessage> = DescMethod & {
  readonly methodKind: 'unary';
  readonly input: I;
  readonly output: O;
};

const TIMEOUT_MS = 30_000;

/** Calls a broker without a session: also one that opens none, because it starts or drains. */
export class Caller implements Disposable {
  private readonly target: Target;
  private readonly clock: Clock;
  private readonly client: Client;
  private readonly metadata = new Metadata();

  constructor(target: Target, clock: Clock) {
    const { address, token, namespace, tls } = target;
    this.target = target;
    this.clock = clock;
    this.client = dial(address, tls, { 'grpc.max_receive_message_length': -1 });
    if (token !== undefined) this.metadata.set('authorization', `Bearer ${token}`);
    if (namespace !== undefined) this.metadata.set('agenthub-namespace', namespace);
  }

  /** @throws HubError as the broker says it; `unavailable` if there is none. */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = unaryMethod(method);
    const deadline = this.clock.now() + TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        create(method.input, request),
        this.metadata,
        { deadline },
        (error, response) => {
          if (error) reject(this.explain(errorOf(error)));
          else resolve(response!);
        },
      );
    });
  }

  [Symbol.dispose](): void {
    this.client.close();
  }

  private explain(error: HubError): HubError {
    const unreachable = /^(No connection established|Name resolution failed)/.test(error.message);
    if (!unreachable) return error;
    const message = `no broker at ${this.target.address}; is one running there? \`agenthub serve\` starts one`;
    return new HubError('unavailable', message, { cause: error });
  }
}
