import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { HubError } from '../std/errors.ts';
import type { ConfigKey } from '../config/keys.ts';
import { describeConfig } from '../config/keys.ts';
import type { Kind } from '../config/kinds.ts';
import { advice, count, duration, flag, size, UNBOUNDED } from '../config/kinds.ts';

const YEAR_MS = 365 * 86_400_000;

/** Reads the value of an option as the configuration reads its values. */
export function as<T>(kind: Kind<T>): (input: string) => T {
  return (input) => {
    const value = kind.parse(input);
    if (value === undefined)
      throw new InvalidArgumentError(`${advice(kind)[0]!.toUpperCase()}${advice(kind).slice(1)}.`);
    return value;
  };
}

/** A whole number from `min`. */
export function whole(min: number, max = 1_000_000): (input: string) => number {
  return as(count(min, max));
}

/** A duration, in milliseconds. */
export const aDuration = as(duration(0, YEAR_MS));

/** An option for a duration, with a default. */
export function durationOption(flag: string, description: string, fallback: string): Option {
  return new Option(`${flag} <duration>`, description)
    .argParser(aDuration)
    .default(aDuration(fallback), fallback);
}

/** A size, in bytes. */
export const aSize = as(size(0, UNBOUNDED));

/** Adds to what was given of an option before. */
export function several(input: string, before: readonly string[] = []): readonly string[] {
  return [...before, input];
}

/** Some things are either named or all meant: forgetting the names must not mean all. */
export function checkChoice(ids: readonly string[], all: boolean): void {
  if (ids.length > 0 === all)
    throw new HubError('invalid', 'name the tasks, or say --all', { field: '--all' });
}

/** Adds examples to a command's help: what to type, and what it does. */
export function examples(...lines: readonly (readonly [type: string, does: string])[]): string {
  return `\nExamples:\n${lines.map(([type, does]) => `  $ ${type}\n      ${does}`).join('\n')}`;
}

/** Adds a flag for every key of the broker's configuration, in its sections; hidden ones are not in its help. */
export function addConfigFlags(command: Command, hidden = false): Command {
  for (const { name, description, keys } of describeConfig()) {
    if (name === 'client') continue;
    command.optionsGroup(name === '' ? 'Options:' : `${name}: ${description}`);
    for (const key of keys) command.addOption(configOption(key).hideHelp(hidden));
  }
  return command;
}

function configOption({ flags, kind, description, default: value }: ConfigKey): Option {
  const names = flags.map((name) => `--${name}`).reverse();
  const argument = kind === flag ? '[yes]' : '<value>';
  const shown = value === '' || kind === flag ? '' : ` (default: ${value})`;
  return new Option(`${names.join(', ')} ${argument}`, `${description}${shown}`);
}
