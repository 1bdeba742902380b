import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { holderOf, readTokens } from '../../../src/edge/tokens.ts';
import { TestTerminal } from '../../support/terminal.ts';

const dir = mkdtempSync(join(tmpdir(), 'agenthub-auth-'));
const policy = join(dir, 'policy.yaml');
writeFileSync(
  policy,
  `rules:
    - { name: planners, who: ['token:planner', 'group:planners'], be: [planner], publish: ['type:ocr'], types: [ocr] }
    - { who: ['token:ops'], admin: ['list*'] }`,
);

afterAll(() => rmSync(dir, { recursive: true, force: true }));

function agenthub(...args: readonly string[]) {
  return new TestTerminal().run('auth', ...args);
}

test('token makes a token, and a line by which the broker knows it', async () => {
  const { code, stdout } = await agenthub('token', 'planner', 'planners', 'all', '-o', 'json');
  const { token, line } = JSON.parse(stdout) as { token: string; line: string };
  expect(code).toBe(0);
  expect(line).not.toContain(token);
  const tokens = readTokens(line, 'agent', 'the file');
  expect(holderOf(tokens, token)).toMatchObject({ name: 'token:planner', groups: ['planners', 'all'] });
  const { stdout: other } = await agenthub('token', 'planner', '-o', 'json');
  expect((JSON.parse(other) as { token: string }).token).not.toBe(token);
});

test('hash says of a token what the file needs', async () => {
  const terminal = new TestTerminal({}, 'token-of-the-planner\n');
  const { stdout } = await terminal.run('auth', 'hash', '-o', 'json');
  const { hash } = JSON.parse(stdout) as { hash: string };
  expect(holderOf(readTokens(`${hash} p`, 'agent', 'f'), 'token-of-the-planner')?.name).toBe('token:p');
  const refused = await new TestTerminal({}, 'short').run('auth', 'hash');
  expect(refused.code).toBe(2);
  expect(refused.stderr).not.toContain('short');
});

test.each<[string[], number, string]>([
  [['--as', 'token:planner', 'publish', 'type:ocr', '--type', 'ocr'], 0, 'rule 1 (planners)'],
  [['--as', 'token:planner', 'publish', 'type:ocr', '--type', 'x'], 3, 'those that name token:planner: 1'],
  [['--as', 'jwt:a', '--group', 'planners', 'be', 'planner'], 0, 'rule 1 (planners)'],
  [['--as', 'jwt:a', 'be', 'planner'], 3, 'no rule of'],
  [['--as', 'token:planner', 'read', 'dead:planner'], 0, 'rule 1'],
  [['--as', 'token:ops', 'admin', 'listAgents'], 0, 'rule 2'],
  [['--as', 'token:ops', 'admin', 'drain'], 3, 'token:ops: 2'],
])('check tells the rule: %j', async (args, code, why) => {
  const said = await agenthub('check', '--policy', policy, ...args);
  expect(said.stdout).toContain(why);
  expect(said.code).toBe(code);
});

test.each<[string[], string]>([
  [['--as', 'planner', 'be', 'planner'], '--as must begin with one of'],
  [['--as', 'token:a', 'fly', 'planner'], 'Allowed choices'],
  [['--as', 'token:a', 'be', ''], 'object'],
  [['--as', 'token:a', 'be', 'planner', '--policy', join(dir, 'none')], "can't be read"],
])('check refuses what makes no sense: %j', async (args, message) => {
  const { code, stderr } = await agenthub('check', '--policy', policy, ...args);
  expect(code).toBe(2);
  expect(stderr).toContain(message);
});
