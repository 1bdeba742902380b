import { describe, expect, test } from '@jest/globals';
import { addressOfPeer, guardListen, isLoopback, Lock } from '../../../src/edge/auth.ts';
import type { LockOptions, Scope } from '../../../src/edge/auth.ts';
import { HubError } from '../../../src/std/errors.ts';

const AGENT = 'agent-token-0123456';
const ADMIN = 'admin-token-0123456';

const OPEN: LockOptions = { tokens: [], adminTokens: [], insecure: false, publicMetrics: false };
const AGENTS: LockOptions = { ...OPEN, tokens: ['another-token-01234', AGENT] };
const ADMINS: LockOptions = { ...OPEN, adminTokens: [ADMIN] };
const BOTH: LockOptions = { ...AGENTS, adminTokens: [ADMIN] };
const INSECURE: LockOptions = { ...OPEN, insecure: true };

const HERE = '127.0.0.1';
const AWAY = '192.0.2.7';

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    if (error instanceof HubError) return error.code;
    throw error;
  }
}

describe('who is let in as what', () => {
  const admin = (by: string) => ({ role: 'admin', by });
  const agent = (by: string) => ({ role: 'agent', by });
  const nobody = 'unauthenticated';

  test.each<[string, LockOptions, string | undefined, string | undefined, unknown]>([
    ['nothing configured, here', OPEN, undefined, HERE, admin('loopback')],
    ['nothing configured, away', OPEN, undefined, AWAY, nobody],
    ['nothing configured, unknown address', OPEN, undefined, undefined, nobody],
    ['nothing configured, a needless token, here', OPEN, `Bearer ${AGENT}`, HERE, admin('loopback')],
    ['agent tokens, here, none shown', AGENTS, undefined, HERE, admin('loopback')],
    ['agent tokens, away, none shown', AGENTS, undefined, AWAY, nobody],
    ['agent tokens, away, a right one', AGENTS, `Bearer ${AGENT}`, AWAY, agent('token')],
    ['agent tokens, here, a wrong one', AGENTS, 'Bearer wrong', HERE, nobody],
    ['admin tokens, here, none shown', ADMINS, undefined, HERE, agent('loopback')],
    ['admin tokens, away, none shown', ADMINS, undefined, AWAY, nobody],
    ['admin tokens, away, a right one', ADMINS, `Bearer ${ADMIN}`, AWAY, admin('token')],
    ['both, here, none shown', BOTH, undefined, HERE, nobody],
    ['both, away, of an agent', BOTH, `Bearer ${AGENT}`, AWAY, agent('token')],
    ['both, away, of an admin', BOTH, `Bearer ${ADMIN}`, AWAY, admin('token')],
    ['both, away, almost right', BOTH, `Bearer ${ADMIN}x`, AWAY, nobody],
    ['both, no known scheme', BOTH, `Basic ${ADMIN}`, AWAY, nobody],
    ['both, no scheme', BOTH, ADMIN, AWAY, nobody],
    ['both, an empty header', BOTH, '', HERE, nobody],
    ['both, the scheme in another case', BOTH, `bearer ${AGENT}`, AWAY, agent('token')],
    ['both, a huge token', BOTH, `Bearer ${'x'.repeat(1_000_000)}`, AWAY, nobody],
    ['insecure, away', INSECURE, undefined, AWAY, agent('open')],
    ['insecure, here', INSECURE, undefined, HERE, admin('loopback')],
    ['insecure with agent tokens, away', { ...BOTH, insecure: true }, undefined, AWAY, nobody],
    ['insecure with admin tokens, away', { ...ADMINS, insecure: true }, undefined, AWAY, agent('open')],
  ])('%s', (_, options, authorization, address, expected) => {
    expect(outcome(() => new Lock(options).authenticate({ authorization, address }))).toEqual(expected);
  });

  test.each<[string, LockOptions, string | undefined, string, unknown]>([
    ['an agent with a token', BOTH, `Bearer ${AGENT}`, AWAY, 'permission'],
    ['an agent on this machine', ADMINS, undefined, HERE, 'permission'],
    ['anybody', INSECURE, undefined, AWAY, 'permission'],
    ['a stranger', BOTH, undefined, AWAY, 'unauthenticated'],
    ['an administrator', BOTH, `Bearer ${ADMIN}`, AWAY, admin('token')],
    ['this machine', OPEN, undefined, HERE, admin('loopback')],
  ])(
    'what only administrators may do is refused or granted to %s',
    (_, options, authorization, address, expected) => {
      expect(outcome(() => new Lock(options).authenticateAdmin({ authorization, address }))).toEqual(
        expected,
      );
    },
  );

  test.each<[Scope, LockOptions, string, string | undefined]>([
    ['public', BOTH, AWAY, undefined],
    ['metrics', BOTH, AWAY, 'unauthenticated'],
    ['metrics', { ...BOTH, publicMetrics: true }, AWAY, undefined],
    ['metrics', OPEN, HERE, undefined],
    ['metrics', INSECURE, AWAY, undefined],
    ['admin', { ...BOTH, publicMetrics: true }, AWAY, 'unauthenticated'],
    ['admin', INSECURE, AWAY, 'permission'],
    ['admin', OPEN, HERE, undefined],
  ])('without a token, %s resources of %j from %s: %s', (scope, options, address, expected) => {
    const lock = new Lock(options);
    expect(outcome(() => lock.authorize({ authorization: undefined, address }, scope))).toBe(expected);
  });

  test('no token can be read from the lock or from its errors', () => {
    const lock = new Lock(BOTH);
    expect(JSON.stringify(lock)).not.toContain('token');
    try {
      lock.authenticate({ authorization: 'Bearer my-own-secret', address: AWAY });
      expect(true).toBe(false);
    } catch (error) {
      expect(String(error)).not.toContain('my-own-secret');
    }
  });
});

describe('listening', () => {
  test.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'])(
    'on %s needs no token',
    (host) => {
      expect(outcome(() => guardListen(host, 'grpc.host', OPEN))).toBeUndefined();
    },
  );

  test.each([
    '0.0.0.0',
    '::',
    '',
    '192.0.2.7',
    'hub.example',
    'localhost.example',
    '127.0.0.1.example',
    '::ffff:8.8.8.8',
  ])('on %j is refused without a token, and the three ways out are told', (host) => {
    expect.assertions(6);
    try {
      guardListen(host, 'grpc.host', OPEN);
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      expect(error.code).toBe('precondition');
      expect(error.field).toBe('grpc.host');
      for (const way of ['auth.tokens', 'grpc.host to 127.0.0.1', '--insecure'])
        expect(error.message).toContain(way);
      expect(error.message).toContain(host);
    }
  });

  test.each([AGENTS, ADMINS, INSECURE])('anywhere is fine with %j', (options) => {
    expect(outcome(() => guardListen('0.0.0.0', 'grpc.host', options))).toBeUndefined();
  });
});

describe('addresses', () => {
  test.each([
    ['127.0.0.1:1234', '127.0.0.1'],
    ['::1:1234', '::1'],
    ['[::1]:1234', '::1'],
    ['::ffff:127.0.0.1:1234', '::ffff:127.0.0.1'],
    ['192.0.2.7:1', '192.0.2.7'],
    ['unknown', undefined],
    ['', undefined],
    ['a.example:80', undefined],
  ])('the peer %j of grpc-js has the address %j', (peer, address) => {
    expect(addressOfPeer(peer)).toBe(address);
  });

  test.each([
    ['127.0.0.1', true],
    ['127.255.255.254', true],
    ['::1', true],
    ['0:0:0:0:0:0:0:1', true],
    ['::ffff:127.0.0.1', true],
    ['::ffff:7f00:1', true],
    ['128.0.0.1', false],
    ['::2', false],
    ['::1:1234', false],
    ['::ffff:128.0.0.1', false],
    ['0.0.0.0', false],
    ['::', false],
    ['localhost', false],
    ['127.0.0.1.example', false],
    ['', false],
  ])('%s is on loopback: %s', (address, expected) => {
    expect(isLoopback(address)).toBe(expected);
  });
});
