import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** A broker in a process of its own. */
export interface BrokerProcess {
  /** Where clients connect. */
  readonly address: string;
  readonly durability: string;
  /** Stops it in good order; resolves with its exit code. */
  stop(): Promise<number | null>;
}

/** Starts a durable broker on free ports. Rejects with what it said if it can't start. */
export async function startBroker(dataDir: string): Promise<BrokerProcess> {
  const args = [MAIN, 'serve', '-o', 'json', '--data-dir', dataDir, '--port', '0', '--http-port', '0'];
  const child = spawn(process.execPath, [...args, '--log-level', 'warn'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit').then(([code]) => code as number | null);
  const complaints = collect(child);
  const { value: line } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  if (typeof line !== 'string') {
    await exited;
    throw new Error(`The broker did not start:\n${complaints().trim()}`);
  }
  const { grpc, durability } = JSON.parse(line) as { grpc: string; durability: string };
  return {
    address: grpc,
    durability,
    async stop() {
      child.kill('SIGTERM');
      return exited;
    },
  };
}

function collect(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  return () => text;
}
