import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addAuthCheck } from './auth-check.ts';
import { addAuthHash } from './auth-hash.ts';
import { addAuthToken } from './auth-token.ts';

/** `agenthub auth` */
export function addAuth(program: Command, cli: Cli): void {
  const auth = program.command('auth').description('Make tokens, and see what a policy allows');
  addAuthCheck(auth, cli);
  addAuthHash(auth, cli);
  addAuthToken(auth, cli);
}
