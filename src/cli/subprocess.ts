import { spawn } from 'node:child_process';
import { buffer } from 'node:stream/consumers';
import type { ReceivedTask, TaskContext } from '../client/index.ts';
import { PermanentError } from '../client/failures.ts';
import type { Terminal } from './terminal.ts';

/** EX_DATAERR of sysexits.h: the input is wrong, and stays so. */
const FOR_GOOD = 65;
const KILL_AFTER_MS = 5_000;
/** Of what a failed command has written to standard error, so much is told the requester. */
const ERROR_BYTES = 2_000;

/**
 * Runs a shell command with a task's payload as its standard input. Resolves with what it prints.
 *
 * @throws PermanentError if it ends with 65, Error if it ends with anything else but 0.
 */
export async function runCommand(
  command: string,
  task: ReceivedTask,
  { signal, attempt }: Pick<TaskContext, 'signal' | 'attempt'>,
  { env, stderr }: Pick<Terminal, 'env' | 'stderr'>,
): Promise<Buffer> {
  const facts = {
    TASK_ID: task.id,
    TASK_TYPE: task.type,
    TASK_MAILBOX: task.mailbox,
    TASK_ATTEMPT: String(attempt),
    TASK_REQUESTER: task.requester,
    TASK_CONTENT_TYPE: task.contentType,
  };
  // A group of its own: what the shell has started ends with it.
  const child = spawn('/bin/sh', ['-c', command], { env: { ...env, ...facts }, detached: true });
  let killer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    killGroup(child.pid, 'SIGTERM');
    killer = setTimeout(() => killGroup(child.pid, 'SIGKILL'), KILL_AFTER_MS);
  };
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr.write(chunk);
    complaint = (complaint + chunk.toString()).slice(-ERROR_BYTES);
  });
  // It need not read what it is given.
  child.stdin.on('error', () => {});
  child.stdin.end(task.payload);
  try {
    const [output, [code, killedBy]] = await Promise.all([
      buffer(child.stdout),
      new Promise<[number | null, string | null]>((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (...end) => resolve(end));
      }),
    ]);
    if (code === 0) return output;
    const what = killedBy === null ? `ended with ${code}` : `was ended by ${killedBy}`;
    const message = `the command ${what}${complaint === '' ? '' : `: ${complaint.trim()}`}`;
    throw code === FOR_GOOD ? new PermanentError(message) : new Error(message);
  } finally {
    clearTimeout(killer);
    signal.removeEventListener('abort', stop);
  }
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended by itself.
  }
}
