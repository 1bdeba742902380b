import { Audit } from '../../src/edge/audit.ts';
import type { LockOptions } from '../../src/edge/auth.ts';
import { Lock } from '../../src/edge/auth.ts';
import { Door } from '../../src/edge/calls.ts';
import { listedTokens } from '../../src/edge/tokens.ts';
import { Metrics } from '../../src/obs/metrics.ts';
import type { Logger } from '../../src/std/logger.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock } from '../../src/std/system.ts';
import type { Policy } from '../../src/trust/policy.ts';

/** What a test says of a lock. */
export interface LockSettings {
  readonly tokens?: readonly string[];
  readonly adminTokens?: readonly string[];
  readonly issuers?: LockOptions['issuers'];
  readonly certificates?: LockOptions['certificates'];
  readonly insecure?: boolean;
}

/** A lock with those tokens. */
export function lockOf(settings: LockSettings): Lock {
  const { tokens = [], adminTokens = [], issuers = [], certificates = 'none', insecure = false } = settings;
  const agents = [listedTokens(tokens, 'agent')];
  const admins = [listedTokens(adminTokens, 'admin')];
  return new Lock({
    tokens: () => agents,
    adminTokens: () => admins,
    issuers,
    certificates,
    insecure,
    clock: systemClock,
  });
}

/** A door with that lock, and that policy. */
export function doorOf(settings: LockSettings, policy?: Policy, logger: Logger = silent): Door {
  const metrics = new Metrics({ clock: systemClock, taskTypes: 1 });
  return new Door({
    lock: lockOf(settings),
    audit: new Audit(logger, metrics, systemClock),
    policy: () => policy,
  });
}
