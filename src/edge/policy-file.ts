import { parse } from 'yaml';
import { HubError, toHubError } from '../std/errors.ts';
import { Namespaces } from '../trust/namespaces.ts';
import { Policy } from '../trust/policy.ts';

/**
 * The policy in the text of a file.
 *
 * @throws HubError `invalid`, naming every fault.
 */
export function readPolicy(text: string, path: string): Policy {
  return Policy.read(documentIn(text, path), path);
}

/**
 * The namespaces in the text of a file.
 *
 * @throws HubError `invalid`, naming every fault.
 */
export function readNamespaces(text: string, path: string): Namespaces {
  return Namespaces.read(documentIn(text, path), path);
}

function documentIn(text: string, path: string): unknown {
  try {
    return parse(text) as unknown;
  } catch (cause) {
    const message = `${path} is neither YAML nor JSON: ${toHubError(cause).message}`;
    throw new HubError('invalid', message, { cause });
  }
}
