import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Linux counts the time of processes in hundredths of a second. */
const TICK_US = 10_000;
const START_MS = 60_000;

/** A server that runs as a process of its own, on loopback. */
export interface DaemonOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Who takes a connection here is ready. */
  readonly port: number;
  /** What it keeps is in there. */
  readonly dir: string;
}

/** A process that is started, measured, killed, and started again on what it has kept. */
export class Daemon {
  readonly options: DaemonOptions;
  private child: ChildProcess | undefined;
  private said = '';
  /** Of the lives that have ended. */
  private past = { cpuUs: 0, written: 0 };

  constructor(options: DaemonOptions) {
    this.options = options;
  }

  /** Resolves when it takes connections. @throws Error with the last of what it has said. */
  async start(): Promise<void> {
    const { name, command, args, env, port, dir } = this.options;
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      // Where some of them leave what they write when they are killed.
      cwd: dirname(dir),
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: some servers are started by a script that stays.
      detached: true,
    });
    this.child = child;
    const hear = (chunk: Buffer): void => {
      this.said = (this.said + chunk.toString()).slice(-2000);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    let failed = false;
    child.once('error', (error) => {
      failed = true;
      this.said += error.message;
    });
    for (const until = Date.now() + START_MS; ; await sleep(20)) {
      if (failed || child.exitCode !== null || child.signalCode !== null)
        throw new Error(`${name} did not start: ${this.said.trim()}`);
      if (await listens(port)) return;
      if (Date.now() > until) throw new Error(`${name} is not ready after a minute: ${this.said.trim()}`);
    }
  }

  /** Ends it as a crash does: what the operating system holds stays. */
  async kill(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const group = child.pid!;
    const { cpuUs, written } = usageOf(group);
    this.past = { cpuUs: this.past.cpuUs + cpuUs, written: this.past.written + written };
    const ended = once(child, 'exit');
    process.kill(-group, 'SIGKILL');
    await ended;
    while (membersOf(group).length > 0) await sleep(5);
  }

  /** CPU time and bytes written to the device, of all its lives. */
  usage(): { readonly cpuUs: number; readonly written: number } {
    const { cpuUs, written } = this.past;
    const now = this.now();
    return { cpuUs: cpuUs + now.cpuUs, written: written + now.written };
  }

  /** Bytes that it keeps. */
  disk(): number {
    return sizeOf(this.options.dir);
  }

  private now(): { cpuUs: number; written: number } {
    const pid = this.child?.pid;
    return pid === undefined ? { cpuUs: 0, written: 0 } : usageOf(pid);
  }
}

function usageOf(group: number): { cpuUs: number; written: number } {
  const all = membersOf(group).map(usageOfOne);
  return {
    cpuUs: all.reduce((sum, { cpuUs }) => sum + cpuUs, 0),
    written: all.reduce((sum, { written }) => sum + written, 0),
  };
}

/** The processes of a group. */
function membersOf(group: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(processGroup) === group && state !== 'Z';
    } catch {
      return false;
    }
  });
}

function usageOfOne(pid: number): { cpuUs: number; written: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const cpuUs = (Number(fields[11]) + Number(fields[12])) * TICK_US;
    const io = readFileSync(`/proc/${pid}/io`, 'utf8');
    return { cpuUs, written: Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0) };
  } catch {
    // It has just ended.
    return { cpuUs: 0, written: 0 };
  }
}

function sizeOf(path: string): number {
  if (!existsSync(path)) return 0;
  try {
    const stat = statSync(path);
    if (!stat.isDirectory()) return stat.blocks * 512;
    return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0);
  } catch {
    // Gone while it was looked at.
    return 0;
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
