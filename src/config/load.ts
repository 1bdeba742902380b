import { totalmem } from 'node:os';
import { parse, YAMLParseError } from 'yaml';
import { HubError } from '../std/errors.ts';
import { closest } from './closest.ts';
import { configKeys, ENV_PREFIX, FILE_ENV, FILE_FLAG } from './keys.ts';
import type { ConfigKey } from './keys.ts';
import { readText } from './read-text.ts';
import { configSchema } from './schema.ts';
import type { Config } from './schema.ts';

/** Where a configuration comes from. */
export interface ConfigInputs {
  /** Path of a YAML or JSON file; else the flag `config` or AGENTHUB_CONFIG name it, or there is none. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** By name, as `data-dir` or `dataDir`; absent and undefined ones don't count. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** Bytes that this process may use; else what the container or the machine has. */
  readonly memoryBytes?: number;
}

/** A configuration, and for each key where its value came from: `default`, `file a.yaml`, `env X`, `flag --x`. */
export interface LoadedConfig {
  readonly config: Config;
  readonly sources: Readonly<Record<string, string>>;
}

/** One line of `agenthub config show`. */
export interface ConfigRow {
  readonly key: string;
  /** For people to read; secrets are hidden, what is unset is empty. */
  readonly value: string;
  readonly source: string;
}

interface Setting {
  readonly input: unknown;
  readonly source: string;
}

type Settings = ReadonlyMap<string, Setting>;

/**
 * Reads the configuration: the file, over it the environment, over it the flags.
 *
 * Empty variables and empty keys of the file count as unset.
 *
 * @throws HubError `invalid`, which names every wrong key, where its value came from and what is accepted;
 *   also for keys, flags and `AGENTHUB_…` variables that don't exist.
 */
export function loadConfig(inputs: ConfigInputs): LoadedConfig {
  const keys = configKeys();
  const flags = fromFlags(keys, inputs.flags);
  const env = fromEnv(keys, inputs.env);
  const path = inputs.file ?? flags.file ?? env.file;
  const file = path === undefined ? new Map<string, Setting>() : fromFile(keys, path);
  const settings: Settings = new Map([...file, ...env.settings, ...flags.settings]);
  const config = check(keys, settings, inputs.memoryBytes ?? availableMemory());
  const sources = keys.map(({ key }) => [key, settings.get(key)?.source ?? 'default'] as const);
  return { config, sources: Object.fromEntries(sources) };
}

/** All keys with their values and where these came from, ready to print. */
export function configRows({ config, sources }: LoadedConfig): readonly ConfigRow[] {
  return configKeys().map(({ key, kind }) => {
    const value = key.split('.').reduce<unknown>(member, config);
    return {
      key,
      value: value === undefined ? '' : kind.format(value as never),
      source: sources[key] ?? 'default',
    };
  });
}

function check(keys: readonly ConfigKey[], settings: Settings, memoryBytes: number): Config {
  const nested: Record<string, unknown> = {};
  for (const [key, { input }] of settings) {
    const [first = '', second] = key.split('.');
    if (second === undefined) nested[first] = input;
    else nested[first] = { ...(nested[first] as object | undefined), [second]: input };
  }
  const result = configSchema(memoryBytes).safeParse(nested);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path, message }) => {
    const key = path.join('.');
    const setting = settings.get(key);
    if (setting === undefined) return { field: key, text: `${key} ${message}` };
    const secret = keys.some((known) => known.key === key && known.kind.secret);
    const value = secret ? 'the value' : JSON.stringify(setting.input);
    return { field: spelled(key, setting.source), text: `${key}: ${value} (${setting.source}) ${message}` };
  });
  throw new HubError('invalid', faults.map(({ text }) => text).join('\n'), { field: faults[0]?.field ?? '' });
}

function fromFlags(keys: readonly ConfigKey[], flags: Readonly<Record<string, unknown>>) {
  const byFlag = new Map(keys.flatMap(({ key, flags: names }) => names.map((name) => [name, key] as const)));
  const settings = new Map<string, Setting>();
  let file: string | undefined;
  for (const [given, input] of Object.entries(flags)) {
    const name = given.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    if (input === undefined) continue;
    const key = byFlag.get(name);
    if (key !== undefined) settings.set(key, { input, source: `flag --${name}` });
    else if (name === FILE_FLAG && typeof input === 'string') file = input;
    else
      throw unknown(
        'flag',
        `--${name}`,
        closest(
          `--${name}`,
          [...byFlag.keys()].map((flag) => `--${flag}`),
        ),
      );
  }
  return { settings, file };
}

function fromEnv(keys: readonly ConfigKey[], env: ConfigInputs['env']) {
  const settings = new Map<string, Setting>();
  const names = new Set<string>([FILE_ENV]);
  for (const { key, env: own } of keys) {
    const name = own.find((candidate) => isSet(candidate, env[candidate]));
    if (name !== undefined) settings.set(key, { input: env[name], source: `env ${name}` });
    for (const each of own) names.add(each);
  }
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(ENV_PREFIX) || names.has(name) || !isSet(name, value)) continue;
    throw unknown('variable', name, closest(name, names));
  }
  return { settings, file: env[FILE_ENV] || undefined };
}

const SERVICE_LINK = /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;

/**
 * Whether a variable was set by a person. In a namespace with a Service named `agenthub-grpc` Kubernetes
 * sets AGENTHUB_GRPC_PORT=tcp://10.0.0.7:50051 in every container, and others beside it.
 * https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
 */
function isSet(name: string, value: string | undefined): boolean {
  if (value === undefined || value === '' || SERVICE_LINK.test(name)) return false;
  return !(name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value));
}

function fromFile(keys: readonly ConfigKey[], path: string): Map<string, Setting> {
  const source = `file ${path}`;
  const known = new Set(keys.map(({ key }) => key));
  const settings = new Map<string, Setting>();
  const walk = (prefix: string, node: unknown): void => {
    if (node === null || node === undefined) return;
    if (known.has(prefix)) {
      settings.set(prefix, { input: node, source });
    } else if (typeof node === 'object' && !Array.isArray(node)) {
      for (const [name, inner] of Object.entries(node))
        walk(prefix === '' ? name : `${prefix}.${name}`, inner);
    } else if (prefix === '') {
      throw new HubError('invalid', `${source} must hold keys and values, as in: grpc: { port: 50051 }`);
    } else {
      throw unknown('key', prefix, closest(prefix, known), ` in ${source}`);
    }
  };
  walk('', document(path, source));
  return settings;
}

function document(path: string, source: string): unknown {
  const text = readText(path, `the configuration ${source}`);
  try {
    // JSON is a subset of YAML.
    return parse(text) as unknown;
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new HubError('invalid', `${source} is neither YAML nor JSON: ${error.message}`, { cause: error });
  }
}

function unknown(what: string, name: string, near: string | undefined, where = ''): HubError {
  const hint = near === undefined ? 'see all with: agenthub config show' : `did you mean ${near}?`;
  return new HubError('invalid', `unknown ${what} ${name}${where}; ${hint}`, { field: name });
}

/** As the user wrote it, if not in a file. */
function spelled(key: string, source: string): string {
  return source.startsWith('file ') ? key : (source.split(' ')[1] ?? key);
}

function member(object: unknown, name: string): unknown {
  return (object as Readonly<Record<string, unknown>>)[name];
}

/** The limit of the container if it has one, else what the machine has. */
function availableMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
