import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { brokers } from '../support/broker.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');

describe('the program in the README', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agenthub-readme-'));
  const program = join(folder, 'example.mts');
  const [, example = ''] =
    /^```ts\n([\s\S]*?)^```/m.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? [];
  const { start } = brokers();

  beforeAll(() => write('localhost:50051'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test('is well typed', async () => {
    const compilerOptions = {
      typeRoots: [join(ROOT, 'node_modules/@types')],
      rewriteRelativeImportExtensions: false,
    };
    const project = { extends: join(ROOT, 'tsconfig.json'), compilerOptions, include: ['.'] };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(project));
    const tsc = join(ROOT, 'node_modules/.bin/tsc');
    const { stdout } = await run(tsc, ['-p', folder]).catch((failure: { stdout: string }) => failure);
    expect(stdout).toBe('');
  });

  test('does what the README says', async () => {
    const broker = await start();
    write(`localhost:${broker.embedded.grpcPort}`);
    const { stdout } = await run(process.execPath, [program]);
    expect(stdout).toBe("50 %: attempt 1\nreader { summary: 'Agents send each other tasks.' }\n");
  });

  /** The package is this folder, and the broker is somewhere else. */
  function write(address: string): void {
    const client = join(ROOT, 'src/client/index.ts');
    writeFileSync(program, example.replace('agenthub/client', client).replaceAll('localhost:50051', address));
  }
});
