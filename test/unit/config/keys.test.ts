import { describe, expect, test } from '@jest/globals';
import { closest } from '../../../src/config/closest.ts';
import { configKeys, describeConfig } from '../../../src/config/keys.ts';

describe('the description of the configuration', () => {
  test('says of every key what it means and what is accepted', () => {
    expect(configKeys().length).toBeGreaterThan(50);
    for (const { description, kind } of configKeys()) {
      expect(description).toMatch(/\.$/);
      expect(kind.accepts).not.toBe('');
    }
    for (const { description } of describeConfig()) expect(description).not.toBe('');
  });

  test('derives the names of variables and flags', () => {
    const sync = configKeys().find(({ key }) => key === 'data.syncIntervalMs');
    expect(sync).toMatchObject({
      env: ['AGENTHUB_DATA_SYNC_INTERVAL_MS'],
      flags: ['data-sync-interval-ms'],
      default: '100ms',
    });
    const port = configKeys().find(({ key }) => key === 'grpc.port');
    expect(port).toMatchObject({ env: ['AGENTHUB_GRPC_PORT'], flags: ['grpc-port', 'port'] });
  });

  test('gives no name twice', () => {
    for (const names of [
      configKeys().flatMap(({ env }) => env),
      configKeys().flatMap(({ flags }) => flags),
      configKeys().map(({ key }) => key),
    ]) {
      expect(new Set(names).size).toBe(names.length);
    }
  });

  test('every default is accepted by its own key', () => {
    for (const { key, default: value, kind } of configKeys()) {
      if (value !== '') expect([key, kind.parse(value)]).not.toEqual([key, undefined]);
    }
  });
});

describe('the closest word', () => {
  const words = ['grpc.port', 'grpc.host', 'data.dir', 'data.sync'];

  test.each([
    ['grpc.prot', 'grpc.port'],
    ['grpcport', 'grpc.port'],
    ['DATA_DIR', 'data.dir'],
    ['data.syn', 'data.sync'],
    ['ghost', undefined],
    ['', undefined],
    ['x'.repeat(10_000), undefined],
  ])('of %j is %j', (word, expected) => {
    expect(closest(word, words)).toBe(expected);
  });
});
