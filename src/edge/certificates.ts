import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';
import { HubError, toHubError } from '../std/errors.ts';

/** Where certificates are. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile?: string | undefined;
}

/** What those files hold, or why they can't be read. */
export interface TlsContents {
  readonly cert: Buffer | Error;
  readonly key: Buffer | Error;
  readonly clientCa: Buffer | Error | null;
}

/** What a server needs for TLS, checked. PEM. */
export interface TlsMaterial {
  /** The certificate and those between it and its authority. */
  readonly cert: Buffer;
  readonly key: Buffer;
  /** The authorities of clients; null: clients show no certificate. */
  readonly clientCa: Buffer | null;
  /** When the first certificate of the chain expires, in milliseconds since the Unix epoch. */
  readonly expiresAt: number;
}

/**
 * Forward secrecy and authenticated encryption only, for TLS 1.2; the suites of TLS 1.3 are all like that
 * (https://wiki.mozilla.org/Security/Server_Side_TLS, "intermediate").
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

/** How servers encrypt: TLS 1.2 at least. */
export function secureContext({ cert, key, clientCa }: TlsMaterial): SecureContextOptions {
  return { cert, key, ...(clientCa ? { ca: clientCa } : {}), minVersion: 'TLSv1.2', ciphers: CIPHERS };
}

/** Reads the files, without judging them. */
export function readTlsFiles({ certFile, keyFile, clientCaFile }: TlsFiles): TlsContents {
  return {
    cert: read(certFile),
    key: read(keyFile),
    clientCa: clientCaFile === undefined ? null : read(clientCaFile),
  };
}

/**
 * What the files hold, if a server can use it at the time `now`.
 *
 * @throws HubError `invalid`, which names the key of the configuration and the file: it can't be read, is not PEM, is
 *   expired or not valid yet, needs a passphrase, or key and certificate don't belong together.
 */
export function checkTls(files: TlsFiles, contents: TlsContents, now: number): TlsMaterial {
  const cert = readable('tls.certFile', files.certFile, contents.cert);
  const key = readable('tls.keyFile', files.keyFile, contents.key);
  const chain = certificatesIn('tls.certFile', files.certFile, cert);
  for (const each of chain) checkTimes('tls.certFile', files.certFile, each, now);
  if (!chain[0]!.checkPrivateKey(privateKeyIn(files.keyFile, key))) {
    throw wrong(
      'tls.keyFile',
      files.keyFile,
      `is not the key of the certificate in ${files.certFile}; renew both`,
    );
  }
  let clientCa: Buffer | null = null;
  if (contents.clientCa !== null) {
    const path = files.clientCaFile ?? '';
    clientCa = readable('tls.clientCaFile', path, contents.clientCa);
    const authorities = certificatesIn('tls.clientCaFile', path, clientCa);
    // Bundles keep authorities for long; one that still counts is enough.
    if (authorities.every((each) => each.validToDate.getTime() <= now))
      checkTimes('tls.clientCaFile', path, authorities[0]!, now);
  }
  const material = {
    cert,
    key,
    clientCa,
    expiresAt: Math.min(...chain.map((each) => each.validToDate.getTime())),
  };
  try {
    createSecureContext(secureContext(material));
  } catch (cause) {
    throw wrong('tls.certFile', files.certFile, `can't be used: ${toHubError(cause).message}`, cause);
  }
  return material;
}

function read(path: string): Buffer | Error {
  try {
    return readFileSync(path);
  } catch (cause) {
    // The path comes before it anyway.
    return new HubError('invalid', (cause as NodeJS.ErrnoException).code ?? toHubError(cause).message, {
      cause,
    });
  }
}

function readable(field: string, path: string, content: Buffer | Error): Buffer {
  if (!(content instanceof Error)) return content;
  throw wrong(field, path, `can't be read (${content.message}); name a file that can`, content);
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function certificatesIn(field: string, path: string, pem: Buffer): readonly X509Certificate[] {
  const blocks = pem.toString('latin1').match(CERTIFICATE);
  if (blocks === null) {
    throw wrong(field, path, 'holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----');
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (cause) {
    throw wrong(field, path, `holds a certificate that is damaged: ${toHubError(cause).message}`, cause);
  }
}

function privateKeyIn(path: string, pem: Buffer): KeyObject {
  const text = pem.toString('latin1');
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) {
    throw wrong(
      'tls.keyFile',
      path,
      'holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----',
    );
  }
  if (/BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(text)) {
    throw wrong(
      'tls.keyFile',
      path,
      'needs a passphrase, which a broker has nobody to ask for; store it without',
    );
  }
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw wrong('tls.keyFile', path, `holds a key that is damaged: ${toHubError(cause).message}`, cause);
  }
}

function checkTimes(field: string, path: string, certificate: X509Certificate, now: number): void {
  const { validFromDate, validToDate } = certificate;
  const subject = certificate.subject?.replaceAll('\n', ', ') ?? 'without a subject';
  if (validToDate.getTime() <= now) {
    throw wrong(
      field,
      path,
      `has expired: the certificate ${subject} ended at ${validToDate.toISOString()}; renew it`,
    );
  }
  if (validFromDate.getTime() > now) {
    const from = validFromDate.toISOString();
    throw wrong(
      field,
      path,
      `is not valid yet: the certificate ${subject} begins at ${from}; check the clocks`,
    );
  }
}

function wrong(field: string, path: string, what: string, cause?: unknown): HubError {
  return new HubError('invalid', `${field}: ${path} ${what}`, { field, cause });
}
