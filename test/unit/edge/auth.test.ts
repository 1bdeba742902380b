import { describe, expect, test } from '@jest/globals';
import { addressOfPeer, guardListen, isLoopback } from '../../../src/edge/auth.ts';
import type { Credentials } from '../../../src/edge/auth.ts';
import type { Admission } from '../../../src/edge/calls.ts';
import { HubError } from '../../../src/std/errors.ts';
import { hashedToken, holderOf, readTokens } from '../../../src/edge/tokens.ts';
import type { LockSettings } from '../../support/door.ts';
import { doorOf, lockOf } from '../../support/door.ts';

const AGENT = 'agent-token-0123456';
const ADMIN = 'admin-token-0123456';

const OPEN: LockSettings = {};
const AGENTS: LockSettings = { ...OPEN, tokens: ['another-token-01234', AGENT] };
const ADMINS: LockSettings = { ...OPEN, adminTokens: [ADMIN] };
const BOTH: LockSettings = { ...AGENTS, adminTokens: [ADMIN] };
const INSECURE: LockSettings = { ...OPEN, insecure: true };

const HERE = '127.0.0.1';
const AWAY = '192.0.2.7';
const certificate = (): undefined => undefined;

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    if (error instanceof HubError) return error.code;
    throw error;
  }
}

describe('who is let in as what', () => {
  const admin = (source: string) => ({ role: 'admin', source });
  const agent = (source: string) => ({ role: 'agent', source });
  const nobody = 'unauthenticated';

  test.each<[string, LockSettings, string | undefined, string | undefined, unknown]>([
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
    ['insecure, away', INSECURE, undefined, AWAY, agent('anonymous')],
    ['insecure, here', INSECURE, undefined, HERE, admin('loopback')],
    ['insecure with agent tokens, away', { ...BOTH, insecure: true }, undefined, AWAY, nobody],
    ['insecure with admin tokens, away', { ...ADMINS, insecure: true }, undefined, AWAY, agent('anonymous')],
  ])('%s', (_, options, authorization, address, expected) => {
    expect(enter(options, { authorization, address, certificate })).toEqual(expected);
  });

  test.each<[string, LockSettings, string | undefined, string, string | undefined]>([
    ['an agent with a token', BOTH, `Bearer ${AGENT}`, AWAY, 'permission'],
    ['an agent on this machine', ADMINS, undefined, HERE, 'permission'],
    ['anybody', INSECURE, undefined, AWAY, 'permission'],
    ['a stranger', BOTH, undefined, AWAY, 'unauthenticated'],
    ['an administrator', BOTH, `Bearer ${ADMIN}`, AWAY, undefined],
    ['this machine', OPEN, undefined, HERE, undefined],
  ])(
    'what only administrators may do is refused or granted to %s',
    (_, options, authorization, address, expected) => {
      let outcome: string | undefined = 'nothing';
      doorOf(options).enterWith({ authorization, address, certificate }, '', 'drain', (error, admission) => {
        outcome = error ? error.code : refusalOf(admission, 'drain');
      });
      expect(outcome).toBe(expected);
    },
  );

  test('tokens in several files count together, and each has its name and groups', () => {
    const file = `# of the team\n${AGENT} planner planners\n\n${hashedToken(ADMIN)} ops\n`;
    const tokens = readTokens(file, 'agent', 'the file');
    expect(holderOf(tokens, AGENT)).toMatchObject({ name: 'token:planner', groups: ['planners'] });
    expect(holderOf(tokens, ADMIN)).toMatchObject({ name: 'token:ops', role: 'agent' });
    expect(holderOf(tokens, 'another-token-01234')).toBeUndefined();
    expect(JSON.stringify([...tokens])).not.toContain(AGENT);
  });

  test('a file with something else in it is refused by line, and what stands there is not repeated', () => {
    expect(() => readTokens(`${AGENT} a\nshort b\n`, 'agent', 'the file')).toThrow(/^the file, line 2: /);
    expect(() => readTokens('sha256:abc a', 'agent', 'the file')).not.toThrow(/abc/);
  });

  test('no token can be read from the lock or from its errors', () => {
    const lock = lockOf(BOTH);
    expect(JSON.stringify(lock)).not.toContain('token');
    let said = '';
    const shown = { authorization: 'Bearer my-own-secret', address: AWAY, certificate };
    lock.authenticate(shown, (...[error]) => {
      said = String(error);
    });
    expect(said).toContain('not known');
    expect(said).not.toContain('my-own-secret');
  });
});

function enter(options: LockSettings, credentials: Credentials): unknown {
  let outcome: unknown;
  lockOf(options).authenticate(credentials, (error, principal) => {
    outcome = error ? error.code : { role: principal.role, source: principal.source };
  });
  return outcome;
}

function refusalOf({ rights }: Admission, verb: string): string | undefined {
  return rights.refusal({ does: 'admin', to: verb }, '')?.code;
}

describe('listening', () => {
  test.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'])(
    'on %s needs no token',
    (host) => {
      expect(outcome(() => guardListen(host, 'grpc.host', true))).toBeUndefined();
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
      guardListen(host, 'grpc.host', true);
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      expect(error.code).toBe('precondition');
      expect(error.field).toBe('grpc.host');
      for (const way of ['auth.tokens', 'grpc.host to 127.0.0.1', '--insecure'])
        expect(error.message).toContain(way);
      expect(error.message).toContain(host);
    }
  });

  test('anywhere is fine if something is asked of callers', () => {
    expect(outcome(() => guardListen('0.0.0.0', 'grpc.host', false))).toBeUndefined();
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
