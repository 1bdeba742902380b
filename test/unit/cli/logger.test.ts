import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test } from '@jest/globals';
import { createLogger } from '../../../src/cli/logger.ts';
import { HubError } from '../../../src/std/errors.ts';
import type { Logger, LogThreshold } from '../../../src/std/logger.ts';

type Log = Parameters<typeof createLogger>[0]['log'];

async function written(log: Log, speak: (logger: Logger) => void): Promise<string> {
  const screen = new PassThrough();
  speak(createLogger({ log, service: { name: 'hub', environment: 'test' } }, screen));
  screen.end();
  return text(screen);
}

test('programs get a line of JSON with the service, the fields and what an error says', async () => {
  const line = await written({ level: 'info', format: 'json' }, (logger) => {
    logger.debug({}, 'nobody asked for it');
    logger
      .child({ shard: 3 })
      .warn({ error: new HubError('corrupt', 'the log is torn', { field: 'data.dir' }) }, 'can not go on');
  });
  expect(JSON.parse(line)).toMatchObject({
    ...{ level: 40, service: 'hub', environment: 'test', shard: 3, msg: 'can not go on' },
    error: { message: 'the log is torn', code: 'corrupt', field: 'data.dir' },
  });
});

test('what is written can be changed while it is in use, for children too', async () => {
  const screen = new PassThrough();
  const threshold: LogThreshold = { level: 'warn' };
  const config = {
    log: { level: 'warn', format: 'json' },
    service: { name: 'hub', environment: 'test' },
  } as const;
  const child = createLogger(config, screen, threshold).child({ shard: 1 });
  child.info({}, 'before');
  threshold.level = 'debug';
  child.debug({ step: 2 }, 'while');
  threshold.level = 'error';
  child.warn({}, 'after');
  screen.end();
  const lines = (await text(screen)).trimEnd().split('\n');
  expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { level: 20, msg: 'while', shard: 1, step: 2 },
  ]);
});

test('people get a line of text', async () => {
  const line = await written({ level: 'debug', format: 'pretty' }, (logger) => {
    logger.debug({ port: 6000, error: new Error('busy') }, 'trying again');
  });
  // eslint-disable-next-line no-control-regex
  expect(line.replaceAll(/\u001b\[\d+m/g, '')).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} debug trying again port=6000 error=busy\n$/,
  );
});

test('a stream that is no terminal gets JSON if nothing is said', async () => {
  const line = await written({ level: 'info', format: 'auto' }, (logger) => logger.info({}, 'hello'));
  expect(JSON.parse(line)).toMatchObject({ msg: 'hello' });
});
