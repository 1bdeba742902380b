import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { HubError, toHubError } from '../../std/errors.ts';
import { readPlacement } from '../../wire/cluster-documents.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { writeRules } from '../../wire/placement.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';
import { placementView } from '../placement.ts';

/** `agenthub placement set` */
export function addPlacementSet(placement: Command, cli: Cli): void {
  const command = placement
    .command('set')
    .description(
      'Make the rules of a file, JSON or YAML, the placement rules. What lives elsewhere by them is moved there, ' +
        'while everything goes on',
    )
    .argument('<file>', 'defaultPool, rules, and the version that they replace (default: whatever holds now)')
    .addHelpText(
      'after',
      examples(
        ['agenthub placement set rules.yaml', 'a file such as the next one'],
        [
          "printf 'rules: [{pool: eu-west, region: eu-west}]' > rules.yaml",
          '`planner@eu-west` and all agents like it live in the pool eu-west',
        ],
      ),
    )
    .action(async (file: string) => {
      const document = await read(file);
      using broker = cli.caller(command);
      const { version = (await broker.call(Admin.method.getPlacement, {})).placement!.version } = document;
      const rules = readPlacement(JSON.stringify({ ...document, version: Number(version) }));
      const view = placementView(
        (await broker.call(Admin.method.setPlacement, writeRules(rules))).placement!,
      );
      const facts = { version: view.version, rules: view.rules.length, 'default pool': view.defaultPool };
      cli.output(command).item(view, facts);
    });
}

/** The document in the file; what `placement get` says of the pools is left out. */
async function read(file: string): Promise<{ version?: unknown }> {
  let document: unknown;
  try {
    document = parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new HubError('invalid', `${file}: ${toHubError(error).message}`, { field: 'file' });
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new HubError('invalid', `${file}: must have the member rules`, { field: 'file' });
  }
  const { pools: _, ...rules } = document as { version?: unknown; pools?: unknown };
  return rules;
}
