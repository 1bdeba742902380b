import { readFileSync } from 'node:fs';
import { HubError } from '../std/errors.ts';

/**
 * The text of a file that somebody has named.
 *
 * @param what how messages call it: `auth.tokensFile: the file a`.
 * @throws HubError `invalid` with the reason, if it can't be read.
 */
export function readText(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid', `${what} can't be read: ${reason}`, { field: path, cause: error });
  }
}
