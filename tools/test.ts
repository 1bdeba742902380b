/**
 * `make test`: the checks, then every test, then the one line `N passed, N failed`.
 *
 * The checks count as one test. Arguments go to jest. Of a test that leaves something running jest warns;
 * it goes by the clock, so that a busy machine makes it warn of others, too, and the run does not fail by it.
 */
import { spawnSync } from 'node:child_process';
import { buildArgv, runCLI } from 'jest';

const ROOT = `${import.meta.dirname}/..`;

const checks = spawnSync('make', ['--no-print-directory', 'check'], { cwd: ROOT, stdio: 'inherit' });
const checksFailed = checks.status === 0 ? 0 : 1;

const { results } = await runCLI(await buildArgv(process.argv.slice(2)), [ROOT]);

const passed = results.numPassedTests + (1 - checksFailed);
const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + checksFailed;
if (checksFailed > 0) process.stderr.write('The checks failed: see above, or run `make check`.\n');
process.stdout.write(`${passed} passed, ${failed} failed\n`, () => {
  process.exit(failed > 0 || passed === 0 ? 1 : 0);
});
