import { z } from 'zod';
import type { PlacementRules } from '../core/placement.ts';
import { HubError } from '../std/errors.ts';
import { readPlacement } from './cluster-documents.ts';

const count = z.int().nonnegative();

const PoolSchema = z.object({ name: z.string().min(1), firstShard: count, shards: count, brokers: count });

const DocumentSchema = z.object({
  version: count,
  defaultPool: z.string(),
  rules: z.array(z.unknown()),
  pools: z.array(PoolSchema).readonly(),
});

/** Which pools there are, and which mailboxes live in which: what `/placement` answers. */
export interface PlacementDocument extends PlacementRules {
  readonly pools: readonly Readonly<z.output<typeof PoolSchema>>[];
}

/** The document as JSON. */
export function writePlacementDocument({ version, defaultPool, rules, pools }: PlacementDocument): string {
  return JSON.stringify({ version, defaultPool, rules, pools });
}

/**
 * Reads what {@link writePlacementDocument} wrote, here or in another version.
 *
 * @throws HubError `invalid` if it is no such document, or has rules that are not known here.
 */
export function readPlacementDocument(text: string): PlacementDocument {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new HubError('invalid', 'no placement document: it is no JSON', { cause });
  }
  const result = DocumentSchema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    const at = issue?.path.join('.') ?? '';
    throw new HubError('invalid', `no placement document: ${at}: ${issue?.message ?? ''}`, { field: at });
  }
  const { pools, version, defaultPool, rules } = result.data;
  return { ...readPlacement(JSON.stringify({ version, defaultPool, rules })), pools };
}
