import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A certificate and its private key, in PEM. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** An authority of its own, made with openssl; remove it in the end. */
export class Authority {
  /** Its own certificate, in PEM. */
  readonly cert: string;
  private readonly dir = mkdtempSync(join(tmpdir(), 'agenthub-ca-'));
  private count = 0;

  constructor(name = 'test authority') {
    const own = [
      '-x509',
      '-days',
      '30',
      '-subj',
      `/CN=${name}`,
      '-addext',
      'basicConstraints=critical,CA:TRUE',
    ];
    this.openssl('req', ...own, ...this.newKey('ca'));
    this.cert = this.read('ca.crt');
  }

  /** A certificate for `name` and 127.0.0.1, or for other alternative names. Negative days: it has expired. */
  issue(name = 'localhost', { days = 30, names = `DNS:${name},IP:127.0.0.1` } = {}): Pair {
    const file = `c${this.count++}`;
    const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names}`];
    this.openssl('req', ...subject, ...this.newKey(file));
    const signer = [
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-days',
      String(days),
      '-copy_extensions',
      'copyall',
    ];
    this.openssl('x509', '-req', '-in', `${file}.crt`, ...signer, '-out', `${file}.pem`);
    return { cert: this.read(`${file}.pem`), key: this.read(`${file}.key`) };
  }

  /** The same key, which only a passphrase opens. */
  locked({ key }: Pair): string {
    writeFileSync(join(this.dir, 'open.key'), key);
    this.openssl('pkcs8', '-topk8', '-in', 'open.key', '-passout', 'pass:secret', '-out', 'locked.key');
    return this.read('locked.key');
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  private newKey(file: string): readonly string[] {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    return [...curve, '-keyout', `${file}.key`, '-out', `${file}.crt`];
  }

  private openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe'] });
  }

  private read(file: string): string {
    return readFileSync(join(this.dir, file), 'utf8');
  }
}

/** A Secret as a kubelet mounts it: files that are links into a folder that is a link, which is swapped at once. */
export class MountedSecret {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string;
  private readonly dir = mkdtempSync(join(tmpdir(), 'agenthub-secret-'));
  private version = 0;

  constructor(pair: Pair, clientCa = '') {
    const path = (name: string): string => join(this.dir, name);
    [this.certFile, this.keyFile, this.clientCaFile] = [path('tls.crt'), path('tls.key'), path('ca.crt')];
    this.write(pair, clientCa);
    for (const name of ['tls.crt', 'tls.key', 'ca.crt']) symlinkSync(join('..data', name), path(name));
  }

  /** Replaces all files together. */
  write({ cert, key }: Pair, clientCa = ''): void {
    const folder = `..version-${this.version++}`;
    mkdirSync(join(this.dir, folder));
    const files = { 'tls.crt': cert, 'tls.key': key, 'ca.crt': clientCa };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.dir, folder, name), text);
    symlinkSync(folder, join(this.dir, '..data_tmp'));
    renameSync(join(this.dir, '..data_tmp'), join(this.dir, '..data'));
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
