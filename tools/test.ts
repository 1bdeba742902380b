/**
 * `make test`: the checks, then every test, then the one line `N passed, N failed`.
 *
 * The checks count as one test. Arguments go to jest. A test that leaves something running fails
 * the run: jest only warns about it.
 */
import { spawnSync } from 'node:child_process';
import { buildArgv, runCLI } from 'jest';

const LEAK = 'failed to exit gracefully';
const ROOT = `${import.meta.dirname}/..`;

/** Whether jest has complained about a worker that it had to kill. */
function watchForLeaks(): () => boolean {
  let seen = false;
  const write = process.stderr.write.bind(process.stderr);
  process.stderr.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
    if (chunk.toString().includes(LEAK)) seen = true;
    return (write as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean)(chunk, ...rest);
  };
  return () => seen;
}

const checks = spawnSync('make', ['--no-print-directory', 'check'], { cwd: ROOT, stdio: 'inherit' });
const checksFailed = checks.status === 0 ? 0 : 1;

const leaked = watchForLeaks();
const { results } = await runCLI(await buildArgv(process.argv.slice(2)), [ROOT]);
const leaks = leaked() ? 1 : 0;
if (leaks > 0) process.stderr.write('A test left something running: find it with --detectOpenHandles.\n');

const passed = results.numPassedTests + (1 - checksFailed);
const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + checksFailed + leaks;
if (checksFailed > 0) process.stderr.write('The checks failed: see above, or run `make check`.\n');
process.stdout.write(`${passed} passed, ${failed} failed\n`, () => {
  process.exit(failed > 0 || passed === 0 ? 1 : 0);
});
