import { ServerCredentials } from '@grpc/grpc-js';
import type { Clock, Timer } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { TlsContents, TlsFiles, TlsMaterial } from './certificates.ts';
import { checkTls, readTlsFiles, secureContext } from './certificates.ts';

/** Whether a client has to show a certificate, or may. */
export type ClientCertificates = 'require' | 'request';

/** Where servers have their certificates from. */
export interface TlsSource {
  readonly current: TlsMaterial;
  /** Whether clients have to show a certificate, if there are authorities for them. */
  readonly clientCertificates: ClientCertificates;
  /** Calls `changed` with what is to be used for connections to come. */
  watch(changed: (material: TlsMaterial) => void): void;
}

/** What a {@link CertificateWatch} is made of. */
export interface CertificateWatchOptions {
  readonly files: TlsFiles;
  readonly clientCertificates: ClientCertificates;
  /** Time between two looks at the files, in milliseconds. */
  readonly reloadMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Hears of every change of the files: whether it could be used. */
  readonly counted: (result: 'reloaded' | 'refused') => void;
}

/**
 * Certificates in files that change, as cert-manager and kubelets change them.
 *
 * It looks instead of watching: files that are renamed, links that are swapped, and network file systems are all
 * alike then. What can't be used at one look may be half written; only if it is still the same at the next, it is
 * refused, said once, and what was there before stays.
 */
export class CertificateWatch implements TlsSource {
  readonly clientCertificates: ClientCertificates;
  private readonly options: CertificateWatchOptions;
  private readonly listeners: ((material: TlsMaterial) => void)[] = [];
  private material: TlsMaterial;
  /** What was seen last, and whether it was judged. */
  private seen: TlsContents;
  private judged = true;
  private timer: Timer | undefined;

  /** @throws HubError `invalid` as {@link checkTls} does, for files that no server can use. */
  constructor(options: CertificateWatchOptions) {
    const { files, clock, clientCertificates } = options;
    this.options = options;
    this.clientCertificates = clientCertificates;
    this.seen = readTlsFiles(files);
    this.material = checkTls(files, this.seen, clock.now());
  }

  get current(): TlsMaterial {
    return this.material;
  }

  /** Time that the certificate in use has left, in seconds; negative if it has expired. */
  get remainingSeconds(): number {
    return (this.material.expiresAt - this.options.clock.now()) / 1000;
  }

  watch(changed: (material: TlsMaterial) => void): void {
    this.listeners.push(changed);
  }

  /** Looks at the files from now on. */
  start(): void {
    this.lookAgain();
  }

  /** Looks no more. */
  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }

  private lookAgain(): void {
    this.timer = this.options.clock.after(this.options.reloadMs, () => {
      this.look();
      this.lookAgain();
    });
  }

  private look(): void {
    const { files, clock, logger, counted } = this.options;
    const contents = readTlsFiles(files);
    const same = sameContents(contents, this.seen);
    if (same && this.judged) return;
    this.seen = contents;
    try {
      this.use(checkTls(files, contents, clock.now()));
      this.judged = true;
    } catch (error) {
      this.judged = same;
      if (!same) return;
      const { message, field } = toHubError(error);
      logger.error({ field }, `the new certificates are not used, the former ones stay: ${message}`);
      counted('refused');
    }
  }

  private use(material: TlsMaterial): void {
    const { clock, logger, counted } = this.options;
    const { cert, key, clientCa } = this.material;
    const unchanged =
      material.cert.equals(cert) &&
      material.key.equals(key) &&
      (material.clientCa ?? Buffer.alloc(0)).equals(clientCa ?? Buffer.alloc(0));
    // As when something broken was put right by putting back what was there.
    if (unchanged) return;
    this.material = material;
    for (const changed of this.listeners) changed(material);
    const days = Math.floor((material.expiresAt - clock.now()) / 86_400_000);
    logger.info({ expires: new Date(material.expiresAt).toISOString(), days }, 'new certificates are in use');
    counted('reloaded');
  }
}

/** Credentials of a gRPC server whose certificates change while it serves; connections that exist stay. */
export class ChangingCredentials extends ServerCredentials {
  /** @param handshakeMs time that a client has to agree on how to encrypt. */
  constructor(tls: TlsSource, handshakeMs: number) {
    super(
      {
        requestCert: tls.current.clientCa !== null,
        rejectUnauthorized: tls.current.clientCa !== null && tls.clientCertificates === 'require',
        handshakeTimeout: handshakeMs,
      },
      secureContext(tls.current),
    );
    tls.watch((material) => this.updateSecureContextOptions(secureContext(material)));
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function sameContents(one: TlsContents, other: TlsContents): boolean {
  return (
    sameContent(one.cert, other.cert) &&
    sameContent(one.key, other.key) &&
    sameContent(one.clientCa, other.clientCa)
  );
}

function sameContent(one: Buffer | Error | null, other: Buffer | Error | null): boolean {
  if (one instanceof Error || other instanceof Error) {
    return one instanceof Error && other instanceof Error && one.message === other.message;
  }
  return one === null || other === null ? one === other : one.equals(other);
}
