import { ERRORS, HubError } from '../std/errors.ts';
import type { ByteWriter } from './bytes.ts';
import type { SpanReader } from './span-reader.ts';
import { codeOf } from './status.ts';

/**
 * Writes what a caller can use to act on an error: `u8 gRPC status | u32 retryAfterMs | message | field | limit`,
 * texts after their length in 32 bits. Its cause stays here.
 */
export function writeError(writer: ByteWriter, error: HubError): void {
  writer.u8(ERRORS[error.code].grpc);
  writer.u32(Math.min(Math.ceil(error.retryAfterMs ?? 0), 0xffff_ffff));
  writer.longText(error.message);
  writer.longText(error.field ?? '');
  writer.longText(error.limit ?? '');
}

/** Reads the error that {@link writeError} wrote. Throws HubError `corrupt` if there is none. */
export function readError(reader: SpanReader): HubError {
  const code = codeOf(reader.u8());
  const retryAfterMs = reader.u32();
  const message = reader.longText();
  const field = reader.longText();
  const limit = reader.longText();
  return new HubError(code, message, {
    ...(field === '' ? {} : { field }),
    ...(limit === '' ? {} : { limit }),
    ...(retryAfterMs === 0 ? {} : { retryAfterMs }),
  });
}
