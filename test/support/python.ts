import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const ROOT = join(import.meta.dirname, '../..');
const REQUIREMENTS = join(ROOT, 'examples/python/requirements.txt');

/** A Python that has what the example needs, and the stubs that were generated for it. */
export interface Python {
  /** Runs a program of `examples/python` to its end; rejects with what it wrote if it fails. */
  run(program: string, ...args: string[]): Promise<string>;
}

/**
 * Makes it ready, in a cache that outlives the run. Undefined, with the reason on stderr, if this
 * machine has no Python with venv, or can't install packages.
 */
export async function preparePython(): Promise<Python | undefined> {
  const packages = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 12);
  const home = join(ROOT, 'node_modules/.cache/python', packages);
  const python = join(home, 'bin/python');
  const stubs = join(home, 'stubs');
  try {
    if (!existsSync(join(home, 'ready'))) {
      rmSync(home, { recursive: true, force: true });
      await run('python3', ['-m', 'venv', home]);
      await run(python, [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        '-r',
        REQUIREMENTS,
      ]);
      mkdirSync(join(home, 'ready'));
    }
    mkdirSync(stubs, { recursive: true });
    const protos = globSync('proto/**/*.proto', { cwd: ROOT });
    const out = [`--python_out=${stubs}`, `--grpc_python_out=${stubs}`];
    await run(python, ['-m', 'grpc_tools.protoc', '-I', 'proto', ...out, ...protos], { cwd: ROOT });
  } catch (error) {
    process.stderr.write(`No Python to test with: ${String(error)}\n`);
    return undefined;
  }
  return {
    async run(program, ...args) {
      const env = { ...process.env, PYTHONPATH: stubs, PYTHONDONTWRITEBYTECODE: '1' };
      const { stdout } = await run(python, [join(ROOT, 'examples/python', program), ...args], { env });
      return stdout;
    },
  };
}
