import { parse } from 'yaml';
import { HubError, toHubError } from '../std/errors.ts';
import { Policy } from '../trust/policy.ts';

/**
 * The policy in the text of a file.
 *
 * @throws HubError `invalid`, naming every fault.
 */
export function readPolicy(text: string, path: string): Policy {
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    const message = `${path} is neither YAML nor JSON: ${toHubError(cause).message}`;
    throw new HubError('invalid', message, { cause });
  }
  return Policy.read(document, path);
}
