import { pino, stdSerializers, stdTimeFunctions } from 'pino';
import type { Config } from '../config/schema.ts';
import type { Logger, LogLevel, LogThreshold } from '../std/logger.ts';
import { LOG_LEVELS } from '../std/logger.ts';
import type { Colors, Screen } from './terminal.ts';
import { colorsOf } from './terminal.ts';

const LEVELS: Readonly<Record<string, readonly [color: 'dim' | 'green' | 'yellow' | 'red', name: string]>> = {
  20: ['dim', 'debug'],
  30: ['green', ' info'],
  40: ['yellow', ' warn'],
  50: ['red', 'error'],
};

/** What every line says, which people know already. */
const COMMON = new Set(['level', 'time', 'msg', 'service', 'environment']);

/**
 * The logger that the configuration asks for: a line of JSON for each event, or a line for people. Its level is that
 * of `threshold` at the moment of the event, and at first the configuration's.
 */
export function createLogger(
  { log, service }: Pick<Config, 'log' | 'service'>,
  screen: Screen,
  threshold: LogThreshold = { level: log.level },
): Logger {
  const pretty = log.format === 'pretty' || (log.format === 'auto' && screen.isTTY === true);
  const options = {
    // pino's own levels are each child's, and can't be changed for all of them.
    level: LOG_LEVELS[0],
    base: { service: service.name ?? 'agenthub', environment: service.environment },
    timestamp: stdTimeFunctions.isoTime,
    serializers: { error: stdSerializers.err },
  };
  const colors = colorsOf(screen);
  const write = (line: string): void => void screen.write(pretty ? prettyLine(line, colors) : line);
  return above(threshold, pino(options, { write }));
}

/** A logger that writes what is at least as important as the threshold says just then. */
function above(threshold: LogThreshold, logger: Logger): Logger {
  const at =
    (level: LogLevel) =>
    (fields: object, message: string): void => {
      if (LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(threshold.level)) logger[level](fields, message);
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => above(threshold, logger.child(fields)),
  };
}

function prettyLine(line: string, colors: Colors): string {
  const event = JSON.parse(line) as Record<string, unknown>;
  const time = String(event['time']).slice(11, 23);
  const fields = Object.entries(event).filter(([name]) => !COMMON.has(name));
  const shown = fields.map(([name, value]) => colors.dim(`${name}=${text(value)}`));
  const [color, level] = LEVELS[String(event['level'])] ?? ['red', 'fatal'];
  return `${[colors.dim(time), colors[color](level), event['msg'], ...shown].join(' ')}\n`;
}

function text(value: unknown): string {
  if (typeof value === 'string') return value;
  const message = typeof value === 'object' && value !== null && 'message' in value ? value.message : value;
  return typeof message === 'string' ? message : JSON.stringify(message);
}
