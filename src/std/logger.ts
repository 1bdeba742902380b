/** Structured logging as the broker needs it; pino satisfies it. Payloads are never logged. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

/** What an event is worth, least first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;

/** One of them. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The least important level that is written, by a logger and all its children; it may be set while they are in use. */
export interface LogThreshold {
  level: LogLevel;
}

/** A logger that says nothing. */
export const silent: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silent,
};
