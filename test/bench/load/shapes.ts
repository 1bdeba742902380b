import type { Shape } from './batches.ts';

/** Names of agents. */
export function agents(count: number, prefix = 'agent'): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}

/** Batches of 100 tasks of 150 bytes, as most measurements use them. */
export function usual(mailboxes: readonly string[], spread: Shape['spread'] = 'batch'): Shape {
  return { batch: 100, taskBytes: 150, mailboxes, spread, results: false };
}
