import { fromBinary } from '@bufbuild/protobuf';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { HubError } from '../std/errors.ts';

/** The message in `bytes`. @throws HubError `invalid` if it is malformed. */
export function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid', `malformed message: not a ${schema.typeName}: ${why}`, { cause: error });
  }
}
