import { CommanderError } from 'commander';
import { TaskFailedError } from '../client/failures.ts';
import { ERRORS, HubError } from '../std/errors.ts';
import type { Screen } from './terminal.ts';
import { colorsOf } from './terminal.ts';

/** The command has done what it was asked for, and the outcome is bad: exit code 3. */
export class BadOutcome extends Error {}

const BAD_OUTCOME = 3;

/** The exit codes, for people. */
export const EXIT_CODES = `Exit codes:
  0  done                               5  in conflict with what is there
  1  a fault of AgentHub                6  not allowed: token missing, unknown or too weak
  2  input not accepted                 7  not now: unreachable, full or busy; try again
  3  done, but the outcome is bad:      8  too late, or cancelled
     a task failed, a bench lost one    9  data corrupt
  4  not found`;

/** The exit code that an error ends the process with. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : ERRORS.invalid.exit;
  if (error instanceof BadOutcome || error instanceof TaskFailedError) return BAD_OUTCOME;
  return error instanceof HubError ? ERRORS[error.code].exit : ERRORS.internal.exit;
}

/** Tells people in one line what has happened, and in another what they can do; programs get one of JSON. */
export function report(
  error: unknown,
  screen: Screen,
  { json, debug }: { json: boolean; debug: boolean },
): void {
  const message = messageOf(error);
  if (message === '') return;
  if (json) screen.write(`${JSON.stringify({ error: { ...facts(error), message } })}\n`);
  else {
    const { red, dim } = colorsOf(screen);
    screen.write(`${red('error:')} ${message}\n`);
    const hint = hintOf(error);
    if (hint !== '') screen.write(`${dim('hint:')} ${hint}\n`);
  }
  if (debug && error instanceof Error) screen.write(`${stackOf(error)}\n`);
}

/** Empty: it is told already. */
function messageOf(error: unknown): string {
  if (error instanceof CommanderError) {
    return TOLD.has(error.code) ? '' : error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ');
  }
  return error instanceof Error ? error.message : String(error);
}

/** Not errors, but the way in which commander ends when it has shown what was asked for. */
const TOLD = new Set(['commander.help', 'commander.helpDisplayed', 'commander.version']);

function facts(error: unknown): object {
  if (error instanceof CommanderError) return { code: 'invalid' };
  if (!(error instanceof HubError)) return { code: error instanceof BadOutcome ? 'bad_outcome' : 'internal' };
  const { code, field, limit, retryAfterMs } = error;
  return { code, field, limit, retryAfterMs };
}

function hintOf(error: unknown): string {
  if (error instanceof CommanderError) return '--help shows what is accepted';
  if (error instanceof BadOutcome || error instanceof TaskFailedError) return '';
  if (!(error instanceof HubError)) return 'this should not happen; --debug shows where it came from';
  const { code, limit, retryAfterMs } = error;
  const hints = [
    code === 'unauthenticated' ? 'give a token with --token or AGENTHUB_CLIENT_TOKEN' : '',
    code === 'permission' ? 'give another token with --token, or ask for a rule' : '',
    limit === undefined ? '' : `the limit is ${limit} of the broker's configuration`,
    retryAfterMs === undefined ? '' : `try again in ${Math.ceil(retryAfterMs)} ms`,
  ];
  return hints.filter((hint) => hint !== '').join('; ');
}

function stackOf(error: Error): string {
  const { stack = error.message, cause } = error;
  return cause instanceof Error ? `${stack}\ncaused by ${stackOf(cause)}` : stack;
}
