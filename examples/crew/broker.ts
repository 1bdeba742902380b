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
  /** Rejects with what it said if it ends before it is stopped. */
  readonly died: Promise<never>;
  /** Stops it in good order. Rejects if it does not end well. */
  stop(): Promise<void>;
}

/** Starts a durable broker on free ports. Rejects with what it said if it can't start. */
export async function startBroker(dataDir: string): Promise<BrokerProcess> {
  const args = [MAIN, 'serve', '-o', 'json', '--data-dir', dataDir, '--port', '0', '--http-port', '0'];
  const child = spawn(process.execPath, [...args, '--log-level', 'warn'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const complaints = collect(child);
  const exited = once(child, 'exit').then(([code]) => code as number | null);
  let stopping = false;
  const died = exited.then((code) => {
    if (stopping) return new Promise<never>(() => {});
    throw new Error(`The broker has ended with code ${code}:\n${complaints().trim()}`);
  });
  const { value: line } = await Promise.race([
    createInterface(child.stdout)[Symbol.asyncIterator]().next(),
    died,
  ]);
  const { grpc, durability } = JSON.parse(String(line)) as { grpc: string; durability: string };
  return {
    address: grpc,
    durability,
    died,
    async stop() {
      stopping = true;
      child.kill('SIGTERM');
      const code = await exited;
      if (code !== 0) throw new Error(`The broker did not stop well, code ${code}:\n${complaints().trim()}`);
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
