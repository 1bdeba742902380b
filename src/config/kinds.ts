import { formatDuration, formatSize, parseDuration, parseSize } from './units.ts';

/** How values of one sort are read from a file, the environment or a flag, and shown again. */
export interface Kind<T> {
  /** What is accepted, in a few words: `a size from 1KiB to 16MiB`. */
  readonly accepts: string;
  /** How to write it or get it, if that needs to be said. */
  readonly hint: string;
  /** Whether the value must never be printed. */
  readonly secret: boolean;
  /** The value, or undefined if `input` is not accepted. `input` is never undefined or null. */
  parse(input: unknown): T | undefined;
  /** For people to read; {@link parse} reads it back unless it is a secret. */
  format(value: T): string;
}

/** A {@link Kind} of unknown values: it reads them all, and shows only what it has read. */
export interface AnyKind extends Omit<Kind<unknown>, 'format'> {
  format(value: never): string;
}

/** As much as can be counted exactly. */
export const UNBOUNDED = Number.MAX_SAFE_INTEGER;

/** What to write instead, for a message to whoever wrote something else. */
export function advice({ accepts, hint }: Pick<AnyKind, 'accepts' | 'hint'>): string {
  return hint === '' ? `use ${accepts}` : `use ${accepts} (${hint})`;
}

const plain = { hint: '', secret: false, format: String } as const;

/** Any text that is not empty. */
export const text: Kind<string> = {
  ...plain,
  accepts: 'a text',
  parse: (input) => {
    const value = typeof input === 'number' ? String(input) : input;
    return typeof value === 'string' && value.trim() !== '' ? value.trim() : undefined;
  },
};

/** A password or the like, of any characters. */
export const secret: Kind<string> = { ...text, secret: true, format: () => '(hidden)' };

/** Texts: a list, or one text with commas between them. */
export const texts: Kind<readonly string[]> = {
  ...plain,
  accepts: 'one or more texts',
  hint: 'with commas between them',
  parse: (input) => {
    const items: readonly unknown[] = Array.isArray(input) ? input : String(input).split(',');
    const list = items.map((item) => String(item).trim()).filter((item) => item !== '');
    return list.length > 0 ? list : undefined;
  },
  format: (list) => list.join(', '),
};

/** A name that can be a part of others. */
export const name: Kind<string> = {
  ...plain,
  accepts: 'a name of 1 to 32 letters, digits, - and _',
  parse: (input) => (/^[\w-]{1,32}$/.test(String(input).trim()) ? String(input).trim() : undefined),
};

const POOL_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** The name of a pool of brokers. */
export const poolName: Kind<string> = {
  ...plain,
  accepts: 'a name of 1 to 63 lower-case letters, digits and inner hyphens',
  parse: (input) => (POOL_NAME.test(String(input).trim()) ? String(input).trim() : undefined),
};

/** Yes or no; a flag without a value is yes. */
export const flag: Kind<boolean> = {
  ...plain,
  accepts: 'true or false',
  parse: (input) => {
    const value = String(input).toLowerCase();
    if (['true', '1', 'yes', 'on'].includes(value)) return true;
    return ['false', '0', 'no', 'off'].includes(value) ? false : undefined;
  },
};

/** A TCP port; `:50051` is how programs written in Go spell it. */
export const port: Kind<number> = {
  ...plain,
  accepts: 'a port from 0 (any free one) to 65535',
  parse: (input) => {
    const digits = /^:?(\d{1,5})$/.exec(String(input).trim())?.[1];
    const value = Number(digits);
    return digits !== undefined && value <= 65_535 ? value : undefined;
  },
};

/** One of a few words, in any case. */
export function oneOf<const T extends string>(...words: readonly T[]): Kind<T> {
  return {
    ...plain,
    accepts: `one of ${words.join(', ')}`,
    parse: (input) => words.find((word) => word === String(input).toLowerCase()),
  };
}

/** A whole number; digits may be grouped as in `1_000_000`. */
export function count(min: number, max: number): Kind<number> {
  return {
    ...plain,
    accepts: `a whole number from ${min} to ${max}`,
    parse: (input) => {
      const written = String(input).trim();
      return /^\d[\d_]*$/.test(written) ? within(Number(written.replaceAll('_', '')), min, max) : undefined;
    },
  };
}

/** A part of the whole. */
export const share: Kind<number> = {
  ...plain,
  accepts: 'a number from 0 to 1',
  hint: 'such as 0.01, or 1%',
  parse: (input) => {
    const [, digits, percent] = /^(\d*\.?\d+)\s*(%?)$/.exec(String(input).trim()) ?? [];
    return digits === undefined ? undefined : within(Number(digits) / (percent === '%' ? 100 : 1), 0, 1);
  },
};

/** Milliseconds. */
export function duration(minMs: number, maxMs: number): Kind<number> {
  return {
    secret: false,
    accepts: `a duration from ${formatDuration(minMs)} to ${formatDuration(maxMs)}`,
    hint: 'such as 500ms, 30s, 1h30m or 7d; a bare number counts milliseconds',
    parse: (input) => within(parseDuration(input), minMs, maxMs),
    format: formatDuration,
  };
}

/** Bytes. */
export function size(min: number, max: number): Kind<number> {
  return {
    secret: false,
    accepts:
      max < UNBOUNDED
        ? `a size from ${formatSize(min)} to ${formatSize(max)}`
        : `a size from ${formatSize(min)}`,
    hint: 'such as 64KiB, 4MiB or 1.5GiB; a bare number counts bytes',
    parse: (input) => within(parseSize(input), min, max),
    format: formatSize,
  };
}

/** Bytes, given as such or as a share of `total`, as in `70%`. */
export function sizeOrShare(min: number, total: number): Kind<number> {
  const bytes = size(min, UNBOUNDED);
  return {
    ...bytes,
    accepts: 'a size, or a share in percent',
    hint: 'such as 2GiB or 70%',
    parse: (input) => {
      const percent = /^(\d{1,3})\s*%$/.exec(String(input).trim())?.[1];
      if (percent === undefined) return bytes.parse(input);
      const share = Number(percent);
      return share >= 1 && share <= 100 ? Math.max(min, wholeMiB((total * share) / 100)) : undefined;
    },
  };
}

const TOKEN = /^(?=.{16,1024}$)[\w\-.~+/]+=*$/;

/** A bearer token: the characters of RFC 6750 §2.1; sixteen is the least that can't be guessed by trying. */
export const token: Kind<string> = {
  secret: true,
  accepts: 'a token of 16 to 1024 letters, digits and -._~+/=',
  hint: 'make one with: openssl rand -hex 16',
  parse: (input) => {
    const value = String(input).trim();
    return TOKEN.test(value) ? value : undefined;
  },
  format: () => '(hidden)',
};

/** Several of {@link token}: a list, or one text with commas between them. */
export const tokens: Kind<readonly string[]> = {
  ...token,
  accepts: 'tokens, each of 16 to 1024 letters, digits and -._~+/=',
  parse: (input) => {
    const items: readonly unknown[] = Array.isArray(input) ? input : String(input).split(',');
    const list = items.map((item) => String(item).trim()).filter((item) => item !== '');
    return list.every((item) => TOKEN.test(item)) ? list : undefined;
  },
  format: (list) => (list.length === 0 ? '' : `(${list.length} hidden)`),
};

function within(value: number | undefined, min: number, max: number): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined;
}

function wholeMiB(bytes: number): number {
  return bytes - (bytes % 2 ** 20);
}
