import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import type { TlsMaterial } from '../../../src/edge/certificates.ts';
import { CertificateWatch } from '../../../src/edge/tls.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { silent } from '../../../src/std/logger.ts';
import { Authority, MountedSecret } from '../../support/authority.ts';
import { VirtualClock } from '../../support/clock.ts';

const RELOAD_MS = 1000;
const authority = new Authority();
const [first, second] = [authority.issue('first'), authority.issue('second')];
afterAll(() => authority.remove());

describe('certificates that change', () => {
  let clock: VirtualClock;
  let secret: MountedSecret;
  let watch: CertificateWatch;
  let counted: string[];
  let errors: string[];
  let used: string[];

  beforeEach(() => {
    clock = new VirtualClock({ start: Date.now() });
    secret = new MountedSecret(first, authority.cert);
    [counted, errors, used] = [[], [], []];
    const logger: Logger = { ...silent, error: (_, message) => errors.push(message) };
    watch = new CertificateWatch({
      files: secret,
      clientCertificates: 'require',
      reloadMs: RELOAD_MS,
      clock,
      logger,
      counted: (result) => counted.push(result),
    });
    watch.watch(({ cert }: TlsMaterial) => used.push(cert.toString()));
    watch.start();
  });

  afterEach(() => {
    watch.stop();
    expect(clock.pending).toBe(0);
    secret.remove();
  });

  test('are used as soon as they are seen, once', () => {
    secret.write(second, authority.cert);
    clock.advance(RELOAD_MS - 1);
    expect(used).toEqual([]);
    clock.advance(1);
    expect(used).toEqual([second.cert]);
    clock.advance(5 * RELOAD_MS);
    expect({ used, counted, errors }).toEqual({ used: [second.cert], counted: ['reloaded'], errors: [] });
    expect(watch.current.key.toString()).toBe(second.key);
  });

  test('are used, too, if only the authorities of clients change', () => {
    secret.write(first, authority.cert + second.cert);
    clock.advance(RELOAD_MS);
    expect(counted).toEqual(['reloaded']);
    expect(watch.current.clientCa?.toString()).toBe(authority.cert + second.cert);
  });

  test('that are half written at one look and whole at the next are no error', () => {
    rmSync(secret.certFile);
    writeFileSync(secret.certFile, second.cert);
    clock.advance(RELOAD_MS);
    expect({ used, counted }).toEqual({ used: [], counted: [] });
    rmSync(secret.keyFile);
    writeFileSync(secret.keyFile, second.key);
    clock.advance(RELOAD_MS);
    expect({ used, counted, errors }).toEqual({ used: [second.cert], counted: ['reloaded'], errors: [] });
  });

  test.each([
    [
      'have the wrong key',
      () => secret.write({ cert: second.cert, key: first.key }, authority.cert),
      /not the key/,
    ],
    ['have expired', () => secret.write(authority.issue('old', { days: -1 }), authority.cert), /has expired/],
    ['are gone', () => rmSync(secret.certFile), /can't be read/],
    ['have no authorities any more', () => secret.write(second, ''), /tls\.clientCaFile: .*no certificate/],
  ])('that %s are not used: the former ones stay, and it is said and counted once', (_, change, why) => {
    change();
    clock.advance(10 * RELOAD_MS);
    expect({ used, counted }).toEqual({ used: [], counted: ['refused'] });
    expect(errors).toEqual([expect.stringMatching(why)]);
    expect(errors[0]).toContain('the former ones stay');
    expect(watch.current.cert.toString()).toBe(first.cert);
  });

  test('that were put right are used', () => {
    secret.write({ cert: second.cert, key: first.key }, authority.cert);
    clock.advance(2 * RELOAD_MS);
    secret.write(second, authority.cert);
    clock.advance(RELOAD_MS);
    expect({ used, counted }).toEqual({ used: [second.cert], counted: ['refused', 'reloaded'] });
  });

  test('that were put back change nothing', () => {
    rmSync(secret.certFile);
    clock.advance(2 * RELOAD_MS);
    writeFileSync(secret.certFile, first.cert);
    clock.advance(5 * RELOAD_MS);
    expect({ used, counted }).toEqual({ used: [], counted: ['refused'] });
  });

  test('tell how long they are good, also when that is over', () => {
    const days = (): number => watch.remainingSeconds / 86_400;
    expect(days()).toBeCloseTo(30, 1);
    // A month of looks, one a second, would take minutes.
    watch.stop();
    clock.advance(31 * 86_400_000);
    expect(days()).toBeCloseTo(-1, 1);
    expect(counted).toEqual([]);
  });
});
