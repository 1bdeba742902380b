import type { Cli } from './cli.ts';
import { globalFlags } from './cli.ts';
import { exitCodeOf, report } from './failure.ts';
import { createProgram } from './program.ts';

/** Runs a command line, without the name of the program. Resolves with the exit code; never rejects. */
export async function run(args: readonly string[], cli: Cli): Promise<number> {
  const program = createProgram(cli);
  try {
    await program.parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    const { output, debug = false } = globalFlags(program);
    report(error, cli.terminal.stderr, { json: output === 'json', debug });
    return exitCodeOf(error);
  }
}
