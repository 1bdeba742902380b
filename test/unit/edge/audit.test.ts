import { expect, test } from '@jest/globals';
import { Audit } from '../../../src/edge/audit.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';

const ACTOR = { who: 'token:ops', peer: '192.0.2.7:1' };

function audit() {
  const lines: object[] = [];
  const loggerOf = (fields: object): Logger => ({
    debug() {},
    info: (more) => void lines.push({ ...fields, ...more }),
    warn: (more) => void lines.push({ ...fields, ...more }),
    error() {},
    child: (more) => loggerOf({ ...fields, ...more }),
  });
  const clock = new VirtualClock();
  const metrics = new Metrics({ clock, taskTypes: 1 });
  return { lines, clock, metrics, audit: new Audit(loggerOf({}), metrics, clock) };
}

test('an act is written with who did what to what, and how it ended', async () => {
  const { lines, metrics, audit: log } = audit();
  await log.during(ACTOR, 'purgeMailbox', 'dead:planner', () => 3);
  const failing = log.during(ACTOR, 'moveShard', '9', () => {
    throw new HubError('not_found', 'there is no broker x');
  });
  await expect(failing).rejects.toThrow('no broker x');
  expect(lines).toEqual([
    { audit: true, ...ACTOR, action: 'purgeMailbox', on: 'dead:planner', result: 'done' },
    {
      audit: true,
      ...ACTOR,
      action: 'moveShard',
      on: '9',
      result: 'not_found',
      error: 'there is no broker x',
    },
  ]);
  expect(metrics.audited.of('moveShard').value).toBe(1);
});

test('many refusals are counted, and a few of each second written, with how many were not', () => {
  const { lines, clock, metrics, audit: log } = audit();
  const refusal = new HubError('permission', 'it may not');
  for (let i = 0; i < 1000; i++) log.refused(ACTOR, 'GET /drain', refusal);
  const written = lines.length;
  expect(written).toBeLessThan(100);
  expect(metrics.denied.of('permission').value).toBe(1000);
  clock.advance(1000);
  log.refused(ACTOR, 'GET /drain', refusal);
  expect(lines.at(-1)).toMatchObject({ ...ACTOR, result: 'permission', notWritten: 1000 - written });
});

test('what is refused for other reasons is nothing to write down', () => {
  const { lines, metrics, audit: log } = audit();
  log.refused(ACTOR, 'x', new HubError('invalid', 'no'));
  expect(lines).toEqual([]);
  expect([...metrics.denied.entries()]).toEqual([]);
});
