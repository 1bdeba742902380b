import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod, DescService, MessageShape } from '@bufbuild/protobuf';
import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  MethodDefinition,
} from '@grpc/grpc-js';
import { HubError } from '../std/errors.ts';
import { asBuffer } from './bytes.ts';
import { decode } from './decode.ts';
import { WellFormed } from './well-formed.ts';

/** The request and response types of one method; `Buffer` where the bytes are passed as they are. */
type Request<Method, Raw> = Raw extends true
  ? Buffer
  : Method extends { input: infer I extends DescMessage }
    ? MessageShape<I>
    : never;
type Response<Method, Raw> = Raw extends true
  ? Buffer
  : Method extends { output: infer O extends DescMessage }
    ? MessageShape<O>
    : never;

type Handler<Method, I, O> = Method extends { methodKind: 'unary' }
  ? handleUnaryCall<I, O>
  : Method extends { methodKind: 'server_streaming' }
    ? handleServerStreamingCall<I, O>
    : Method extends { methodKind: 'client_streaming' }
      ? handleClientStreamingCall<I, O>
      : handleBidiStreamingCall<I, O>;

type IsRaw<Name, Raw> = Name extends Raw ? true : false;

/** What a server implements for a service of which the methods `Raw` take and give bytes. */
export type Implementation<Service extends DescService, Raw extends keyof Service['method'] = never> = {
  [Name in keyof Service['method']]: Handler<
    Service['method'][Name],
    Request<Service['method'][Name], IsRaw<Name, Raw>>,
    Response<Service['method'][Name], IsRaw<Name, Raw>>
  >;
};

/** A service as grpc-js wants it, by the local names of its methods. */
export type Definition<Service extends DescService, Raw extends keyof Service['method'] = never> = {
  readonly [Name in keyof Service['method']]: MethodDefinition<
    Request<Service['method'][Name], IsRaw<Name, Raw>>,
    Response<Service['method'][Name], IsRaw<Name, Raw>>
  >;
};

/**
 * The grpc-js definition of a protobuf-es service, for servers and clients.
 *
 * A request that can't be decoded does not throw, because grpc-js would answer INTERNAL: it arrives
 * as the {@link HubError} `invalid`, and {@link received} throws it in the handler.
 *
 * @param raw local names of hot methods, whose messages stay `Buffer`s on both ways.
 */
export function serviceDefinition<
  Service extends DescService,
  const Raw extends keyof Service['method'] = never,
>(service: Service, raw: readonly Raw[] = []): Definition<Service, Raw> {
  const names = raw as readonly (string | number | symbol)[];
  const methods = service.methods.map((method) => [
    method.localName,
    names.includes(method.localName)
      ? identityMethod(pathOf(method), streams(method))
      : decodedMethod(method),
  ]);
  return Object.fromEntries(methods) as Definition<Service, Raw>;
}

/** The definition of one unary method, for clients that make few calls. */
export function unaryMethod<Method extends DescMethod & { methodKind: 'unary' }>(
  method: Method,
): MethodDefinition<MessageShape<Method['input']>, MessageShape<Method['output']>> {
  return decodedMethod(method) as MethodDefinition<
    MessageShape<Method['input']>,
    MessageShape<Method['output']>
  >;
}

/** A method whose messages are bytes on both sides: nothing is encoded, decoded, or copied here. */
export function identityMethod(
  path: string,
  { requestStream, responseStream }: { readonly requestStream: boolean; readonly responseStream: boolean },
): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** The path of a method: `/package.Service/Method`. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** A request as a handler gets it. @throws HubError `invalid` if it could not be decoded. */
export function received<T>(request: T): T {
  if (request instanceof HubError) throw request;
  return request;
}

function decodedMethod(method: DescMethod): MethodDefinition<unknown, unknown> {
  const { input, output } = method;
  const form = new WellFormed(input);
  return {
    path: pathOf(method),
    ...streams(method),
    requestSerialize: encoder(input),
    requestDeserialize: (bytes) => decodeRequest(input, form, bytes),
    responseSerialize: encoder(output),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  };
}

function streams({ methodKind }: DescMethod): { requestStream: boolean; responseStream: boolean } {
  return {
    requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
    responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
  };
}

function encoder<Desc extends DescMessage>(schema: Desc): (message: unknown) => Buffer {
  // grpc-js wants a Buffer: a bare Uint8Array fails the call.
  return (message) => asBuffer(toBinary(schema, message as MessageShape<Desc>));
}

function decodeRequest(schema: DescMessage, form: WellFormed, bytes: Uint8Array): unknown {
  try {
    const message = decode(schema, bytes);
    // The decoder takes a field whatever its wire type says, and reads something else out of it.
    form.check(bytes, 0, bytes.length);
    return message;
  } catch (error) {
    return error;
  }
}

function same(bytes: Buffer): Buffer {
  return bytes;
}
