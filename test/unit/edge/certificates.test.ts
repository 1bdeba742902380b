import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { checkTls, readTlsFiles } from '../../../src/edge/certificates.ts';
import { HubError } from '../../../src/std/errors.ts';
import { Authority } from '../../support/authority.ts';

const dir = mkdtempSync(join(tmpdir(), 'agenthub-certificates-'));
const authority = new Authority();
const pair = authority.issue();
const DAY = 86_400_000;

afterAll(() => {
  authority.remove();
  rmSync(dir, { recursive: true, force: true });
});

/** Checks files with those texts; undefined: no such file. */
function check(
  texts: { cert?: string | undefined; key?: string | undefined; ca?: string },
  now = Date.now(),
) {
  const path = (name: string): string => join(dir, name);
  rmSync(path('tls.crt'), { force: true });
  rmSync(path('tls.key'), { force: true });
  const { cert, key, ca } = { ...pair, ...texts };
  if (cert !== undefined) writeFileSync(path('tls.crt'), cert);
  if (key !== undefined) writeFileSync(path('tls.key'), key);
  if (ca !== undefined) writeFileSync(path('ca.crt'), ca);
  const files = {
    certFile: path('tls.crt'),
    keyFile: path('tls.key'),
    ...(ca === undefined ? {} : { clientCaFile: path('ca.crt') }),
  };
  return checkTls(files, readTlsFiles(files), now);
}

/** Why they can't be used. */
function fault(...args: Parameters<typeof check>): { field: string | undefined; message: string } {
  try {
    check(...args);
  } catch (error) {
    const { code, field, message } = error as HubError;
    expect(error).toBeInstanceOf(HubError);
    expect(code).toBe('invalid');
    return { field, message };
  }
  throw new Error('nothing is wrong with them');
}

describe('certificates', () => {
  test('that belong together are used, and it is known when they end', () => {
    const { cert, clientCa, expiresAt } = check({ ca: authority.cert });
    expect(cert.toString()).toBe(pair.cert);
    expect(clientCa?.toString()).toBe(authority.cert);
    expect((expiresAt - Date.now()) / DAY).toBeCloseTo(30, 1);
  });

  test('end when the first of the chain does', () => {
    const brief = authority.issue('authority between', { days: 2 });
    const { expiresAt } = check({ cert: pair.cert + brief.cert });
    expect((expiresAt - Date.now()) / DAY).toBeCloseTo(2, 1);
  });

  test.each([
    [
      'a certificate that is not there',
      { cert: undefined },
      'tls.certFile',
      /tls\.crt can't be read \(ENOENT/,
    ],
    ['a key that is not there', { key: undefined }, 'tls.keyFile', /tls\.key can't be read \(ENOENT/],
    ['a certificate that is none', { cert: 'nonsense' }, 'tls.certFile', /holds no certificate in PEM/],
    ['a key instead of a certificate', { cert: pair.key }, 'tls.certFile', /holds no certificate in PEM/],
    ['a certificate instead of a key', { key: pair.cert }, 'tls.keyFile', /holds no private key in PEM/],
    [
      'the key of another certificate',
      { key: authority.issue().key },
      'tls.keyFile',
      /is not the key of .*tls\.crt/,
    ],
    ['a key with a passphrase', { key: authority.locked(pair) }, 'tls.keyFile', /needs a passphrase/],
    ['half a certificate', { cert: pair.cert.slice(0, 200) }, 'tls.certFile', /holds no certificate in PEM/],
    [
      'a damaged certificate',
      { cert: pair.cert.replace('MII', 'AAA') },
      'tls.certFile',
      /holds a certificate that is damaged/,
    ],
    ['a damaged key', { key: pair.key.replace('MIG', 'AAA') }, 'tls.keyFile', /holds a key that is damaged/],
    [
      'a certificate that has expired',
      authority.issue('old', { days: -1 }),
      'tls.certFile',
      /tls\.crt has expired: the certificate CN=old ended at \d{4}-/,
    ],
    [
      'authorities that are none',
      { ca: 'nonsense' },
      'tls.clientCaFile',
      /ca\.crt holds no certificate in PEM/,
    ],
    [
      'authorities that have all expired',
      { ca: authority.issue('old', { days: -1 }).cert },
      'tls.clientCaFile',
      /ca\.crt has expired/,
    ],
  ])('are refused with %s; file and key of the configuration are named', (_, texts, field, message) => {
    const found = fault(texts);
    expect(found.field).toBe(field);
    expect(found.message).toMatch(message);
    expect(found.message.startsWith(`${field}: ${dir}`)).toBe(true);
  });

  test('that begin later are refused', () => {
    expect(fault({}, Date.now() - 2 * DAY).message).toMatch(
      /is not valid yet: .* begins at \d{4}-.*check the clocks/,
    );
  });

  test('of an authority that has ended may stay in the bundle beside one that counts', () => {
    const old = authority.issue('old', { days: -1 }).cert;
    expect(check({ ca: old + authority.cert }).clientCa?.toString()).toBe(old + authority.cert);
  });
});
