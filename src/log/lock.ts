import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, open, readdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { HubError } from '../std/errors.ts';

/** A folder that this process alone may use. */
export interface FolderLock {
  release(): Promise<void>;
}

const SOCKET_PREFIX = 'lock-';
const LOCK_FILE = 'lock.json';
/** The longest path of a socket that all systems take. */
const MAX_SOCKET_PATH = 100;
/** Milliseconds to wait for the holder's name; who does not answer holds the folder as well. */
const ANSWER_MS = 250;
/** What systems say of a folder that can't hold sockets. */
const NO_SOCKETS = new Set(['EPERM', 'EACCES', 'EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP']);

/**
 * Takes `folder` for this process, as long as it lives: the death of a process, however it comes,
 * releases what it held. It protects against all processes of one machine, in any container, and
 * not against those of other machines that mount the same network volume.
 *
 * Where a folder can't hold sockets, or `options.sockets` says so, a lock file is used instead.
 *
 * @throws HubError `conflict` if another process holds the folder.
 */
export async function lockFolder(folder: string, options = { sockets: true }): Promise<FolderLock> {
  const lock = options.sockets ? await lockBySocket(folder) : undefined;
  return lock ?? lockByFile(folder);
}

/**
 * The lock is a socket in the folder that accepts connections. That works between containers which
 * share a volume, and know nothing of each other's processes and networks.
 *
 * Everyone who wants the folder first listens under a name of its own, then looks for others who
 * listen. So of two, at least one sees the other, and whoever sees another one gives up. A socket
 * that refuses is left from a dead process and removed; names are never used again.
 */
async function lockBySocket(folder: string): Promise<FolderLock | undefined> {
  const own = `${SOCKET_PREFIX}${randomBytes(8).toString('hex')}`;
  const directory = await openDirectory(folder);
  const base = directory === undefined ? folder : `/proc/self/fd/${directory.fd}`;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`process ${process.pid} on ${hostname()}`);
  });
  const release = async (): Promise<void> => {
    if (server.listening) await new Promise((resolve) => server.close(resolve));
    await unlink(join(folder, own)).catch(() => {});
    await directory?.close();
  };
  try {
    if (!(await listen(server, `${base}/${own}`))) {
      await release();
      return undefined;
    }
    for (const name of await readdir(folder)) {
      if (!name.startsWith(SOCKET_PREFIX) || name === own) continue;
      const holder = await ask(`${base}/${name}`);
      if (holder !== undefined) throw held(folder, holder);
      await unlink(join(folder, name)).catch(() => {});
    }
    // Someone may have taken this socket for a dead one just before it listened.
    if (!existsSync(join(folder, own))) throw held(folder, 'another process');
  } catch (error) {
    await release();
    throw error;
  }
  return { release };
}

/** The way to name sockets shortly, however long the folder's path is; where there is /proc. */
async function openDirectory(folder: string): Promise<FileHandle | undefined> {
  return existsSync('/proc/self/fd') ? open(folder, 'r') : undefined;
}

/** Whether `server` listens at `path` now; false if a socket can't be there. */
function listen(server: Server, path: string): Promise<boolean> {
  if (process.platform === 'win32' || Buffer.byteLength(path) > MAX_SOCKET_PATH)
    return Promise.resolve(false);
  return new Promise((resolve, reject) => {
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (NO_SOCKETS.has(error.code ?? '')) resolve(false);
      else reject(error);
    });
    server.listen(path, () => {
      server.unref();
      resolve(true);
    });
  });
}

/** Who listens at `path`, or undefined if nobody does. */
function ask(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let holder = '';
    const socket = connect(path);
    const answer = (): void => {
      socket.destroy();
      resolve(holder || 'another process');
    };
    socket.setTimeout(ANSWER_MS, answer);
    socket.on('data', (bytes) => {
      holder += bytes.toString('utf8');
    });
    socket.on('end', answer);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(undefined);
      else answer();
    });
  });
}

/** For folders that can't hold sockets: a file with the holder's process id, checked for life. */
async function lockByFile(folder: string): Promise<FolderLock> {
  const file = join(folder, LOCK_FILE);
  const own = JSON.stringify({ pid: process.pid, host: hostname() });
  for (let attempt = 0; ; attempt++) {
    try {
      await writeFile(file, own, { flag: 'wx' });
      return { release: () => unlink(file).catch(() => {}) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const text = await readFile(file, 'utf8').catch(() => '');
    if (attempt > 0 || !isDead(text))
      throw held(folder, `the process named in ${LOCK_FILE} (${text}; if it is dead, remove that file)`);
    await unlink(file).catch(() => {});
  }
}

function isDead(text: string): boolean {
  try {
    const { pid, host } = JSON.parse(text) as { pid: number; host: string };
    if (host !== hostname()) return false;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

function held(folder: string, holder: string): HubError {
  const advice = 'stop that broker, or use another folder';
  return new HubError('conflict', `${folder} is in use by ${holder}: ${advice}`, { field: 'data.dir' });
}
