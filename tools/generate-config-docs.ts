import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeConfig, FILE_ENV, FILE_FLAG } from '../src/config/keys.ts';
import type { ConfigSection } from '../src/config/keys.ts';

const INTRODUCTION = `# Configuration

<!-- Written by tools/generate-config-docs.ts from src/config/schema.ts; make generate writes it again. -->

Nothing needs to be configured. What is configured comes from a file (YAML or JSON, named by
\`--${FILE_FLAG}\` or \`${FILE_ENV}\`), over it from the environment, over it from flags.
\`agenthub config show\` prints every value and where it came from. A key, variable or flag that does not
exist is refused.

\`\`\`yaml
grpc:
  host: 0.0.0.0
auth:
  tokensFile: /etc/agenthub/tokens
data:
  dir: /var/lib/agenthub
\`\`\`

Durations are written as \`500ms\`, \`30s\`, \`1h30m\` or \`7d\` (a bare number counts milliseconds), sizes as
\`64KiB\`, \`4MiB\` or \`1.5GiB\` (a bare number counts bytes), tokens as a list or with commas between them.`;

function sectionText({ name, description, keys }: ConfigSection): string {
  const rows = keys.map(({ key, default: value, description, kind, env, flags }) => {
    const names = [...flags.map((flag) => `--${flag}`), ...env].map(code).join('<br>');
    return `| ${code(key)} | ${value === '' ? 'unset' : code(value)} | ${description} | ${kind.accepts} | ${names} |`;
  });
  return [
    `## ${name === '' ? 'General' : code(name)}`,
    description,
    ['| key | default | meaning | accepts | flags and variables |', '|---|---|---|---|---|', ...rows].join(
      '\n',
    ),
  ].join('\n\n');
}

function code(text: string): string {
  return `\`${text}\``;
}

const folder = join(process.argv[2] ?? '.', 'docs');
const parts = [INTRODUCTION, ...describeConfig().map(sectionText)];
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'configuration.md'), `${parts.join('\n\n')}\n`);
