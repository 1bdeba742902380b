import { z } from 'zod';
import { configSchema } from './schema.ts';
import type { AnyKind } from './kinds.ts';

/** All that is known of one key of the configuration without having a configuration. */
export interface ConfigKey {
  /** As in a file, with a dot for each level: `grpc.port`. */
  readonly key: string;
  /** Environment names, the strongest first. */
  readonly env: readonly string[];
  /** Flags without the dashes; the first one is derived from the key, the others are short for it. */
  readonly flags: readonly string[];
  /** As a person would write it; empty if the key has none. */
  readonly default: string;
  readonly kind: AnyKind;
  readonly description: string;
}

/** Keys that belong together; the section without a name holds the keys of the first level. */
export interface ConfigSection {
  readonly name: string;
  readonly description: string;
  readonly keys: readonly ConfigKey[];
}

/** The variable that names the configuration file, as `--config` does. */
export const FILE_ENV = 'AGENTHUB_CONFIG';

/** The flag that names the configuration file. */
export const FILE_FLAG = 'config';

/** Begins every environment name of ours. */
export const ENV_PREFIX = 'AGENTHUB_';

/** Names that users of the first AgentHub have in their environments. */
const ENV_ALIASES: Readonly<Record<string, readonly string[]>> = {
  'http.port': ['BROKER_HEALTH_PORT'],
  'service.version': ['SERVICE_VERSION'],
  'service.environment': ['ENVIRONMENT'],
  'log.level': ['LOG_LEVEL'],
  'tracing.endpoint': [
    'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'JAEGER_ENDPOINT',
  ],
  'client.host': ['AGENTHUB_BROKER_ADDR'],
  'client.port': ['AGENTHUB_BROKER_PORT'],
};

const FLAG_ALIASES: Readonly<Record<string, readonly string[]>> = {
  'grpc.port': ['port'],
  'data.sync': ['sync'],
};

/** Every key of the configuration, by section, from the schema alone. */
export function describeConfig(): readonly ConfigSection[] {
  const top: ConfigKey[] = [];
  const sections: ConfigSection[] = [];
  for (const [name, part] of Object.entries(configSchema(0).shape)) {
    const inner = part instanceof z.ZodPrefault ? part.def.innerType : part;
    if (inner instanceof z.ZodObject) {
      const keys = Object.entries<z.core.$ZodType>(inner.shape).map(([leaf, schema]) =>
        describeKey(`${name}.${leaf}`, schema),
      );
      sections.push({ name, description: part.description ?? '', keys });
    } else {
      top.push(describeKey(name, part));
    }
  }
  return [{ name: '', description: 'What concerns all of it.', keys: top }, ...sections];
}

/** The same as one list. */
export function configKeys(): readonly ConfigKey[] {
  return describeConfig().flatMap((section) => section.keys);
}

function describeKey(key: string, schema: z.core.$ZodType): ConfigKey {
  const meta = z.globalRegistry.get(schema);
  if (meta?.kind === undefined) throw new TypeError(`${key} has no kind`);
  return {
    key,
    env: [ENV_PREFIX + words(key).join('_').toUpperCase(), ...(ENV_ALIASES[key] ?? [])],
    flags: [words(key).join('-'), ...(FLAG_ALIASES[key] ?? [])],
    default: schema instanceof z.ZodPrefault ? String(schema.def.defaultValue) : '',
    kind: meta.kind,
    description: meta.description ?? '',
  };
}

/** `grpc.maxMessageBytes` → grpc, max, message, bytes. */
function words(key: string): readonly string[] {
  return key.split(/\.|(?=[A-Z])/).map((word) => word.toLowerCase());
}
