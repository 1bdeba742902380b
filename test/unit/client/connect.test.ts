import { describe, expect, test } from '@jest/globals';
import { addressFromEnv } from '../../../src/client/connect.ts';

describe('the address in the environment', () => {
  test.each([
    [{}, 'localhost:50051'],
    [{ AGENTHUB_BROKER_ADDR: 'hub.example' }, 'hub.example:50051'],
    [{ AGENTHUB_BROKER_PORT: '6000' }, 'localhost:6000'],
    [{ AGENTHUB_BROKER_ADDR: 'hub.example', AGENTHUB_BROKER_PORT: '6000' }, 'hub.example:6000'],
    [{ AGENTHUB_BROKER_ADDR: 'hub.example:7000' }, 'hub.example:7000'],
    [{ AGENTHUB_BROKER_ADDR: '::1' }, '[::1]:50051'],
    [{ AGENTHUB_BROKER_ADDR: '::1', AGENTHUB_BROKER_PORT: '6000' }, '[::1]:6000'],
    [{ AGENTHUB_BROKER_ADDR: '[::1]:7000' }, '[::1]:7000'],
    [{ AGENTHUB_BROKER_ADDR: '', AGENTHUB_BROKER_PORT: '' }, 'localhost:50051'],
  ])('%j is %s', (env, address) => {
    expect(addressFromEnv(env)).toBe(address);
  });

  test('with a port that is none is refused', () => {
    expect(() => addressFromEnv({ AGENTHUB_BROKER_PORT: ':50051x' })).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'AGENTHUB_BROKER_PORT' }),
    );
  });
});
