/** One thing that must be right for the broker to work. */
export interface HealthCheck {
  readonly name: string;
  readonly healthy: boolean;
  /** What is wrong, or worth saying. */
  readonly message?: string;
  /**
   * What it is about if it isn't healthy: `life`, a restart may help; `readiness`, the broker only takes no
   * more work for now, as while it starts or drains.
   */
  readonly concerns: 'life' | 'readiness';
  /** When it was checked: ms since the Unix epoch. */
  readonly checkedAt: number;
  readonly durationMs: number;
}

/** How the broker is. */
export interface Health {
  readonly checks: readonly HealthCheck[];
  readonly version: string;
  readonly uptimeMs: number;
}

/** What `/health` and `/ready` answer; probes of the first AgentHub read this. */
export interface HealthDocument {
  readonly status: 'healthy' | 'unhealthy';
  readonly checks: readonly {
    readonly name: string;
    readonly status: 'healthy' | 'unhealthy';
    readonly message?: string;
    /** RFC 3339. */
    readonly last_checked: string;
    /** As Go writes durations: `1.5ms`. */
    readonly duration: string;
  }[];
  readonly version: string;
  /** As Go writes durations: `1h2m3s`. */
  readonly uptime: string;
}

/** All checks, and a verdict: of life, or of readiness, which needs life. */
export function healthDocument(health: Health, verdict: HealthCheck['concerns']): HealthDocument {
  const counting = health.checks.filter(({ concerns }) => verdict === 'readiness' || concerns === 'life');
  return {
    status: word(counting.every(({ healthy }) => healthy)),
    checks: health.checks.map(({ name, healthy, message, checkedAt, durationMs }) => ({
      name,
      status: word(healthy),
      ...(message === undefined ? {} : { message }),
      last_checked: new Date(checkedAt).toISOString(),
      duration: goDuration(durationMs),
    })),
    version: health.version,
    uptime: goDuration(health.uptimeMs),
  };
}

/** As https://pkg.go.dev/time#Duration.String writes it, to the microsecond. */
export function goDuration(ms: number): string {
  const micros = Math.max(0, Math.floor(ms * 1000));
  if (micros === 0) return '0s';
  if (micros < 1000) return `${micros}µs`;
  if (micros < 1_000_000) return `${micros / 1000}ms`;
  const seconds = `${(micros % 60_000_000) / 1_000_000}s`;
  const minutes = Math.floor(micros / 60_000_000);
  if (minutes === 0) return seconds;
  return minutes < 60 ? `${minutes}m${seconds}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`;
}

function word(healthy: boolean): 'healthy' | 'unhealthy' {
  return healthy ? 'healthy' : 'unhealthy';
}
