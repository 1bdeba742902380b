import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { natsPermissions, natsPermissionsText } from '../../../src/wire/nats-permissions.ts';

const HANDBOOK = readFileSync(`${import.meta.dirname}/../../../docs/security.md`, 'utf8');

test('the handbook says what brokers need, to the letter', () => {
  expect(HANDBOOK).toContain(`permissions: ${natsPermissionsText(natsPermissions('agenthub'))}`);
});

test('in an account that others use, nothing of theirs is allowed', () => {
  const { publish, subscribe } = natsPermissions('cell', 2);
  const all = [...publish, ...subscribe];
  expect(all).toContain('$JS.API.STREAM.INFO.cell-1');
  expect(all).toContain('$JS.API.STREAM.INFO.KV_cell-cluster');
  for (const subject of all) expect(subject).toMatch(/(^|[._])cell([.-]|$)/);
});

test('nobody who is a broker can delete a stream, or take records out of it, or look at those of others', () => {
  for (const subject of [...natsPermissions('cell').publish, ...natsPermissions('cell', 1).publish]) {
    expect(subject).not.toMatch(/STREAM\.(DELETE|RESTORE|SNAPSHOT|MSG\.DELETE|LIST|NAMES|PEER|LEADER)/);
    expect(subject).not.toMatch(/^(>|\*|\$SYS|\$JS\.API\.>)/);
  }
});
