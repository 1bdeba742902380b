import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AGENTHUB_CONFIG } from '../support/kube/images.ts';

const file = readFileSync(join(import.meta.dirname, '../../Dockerfile'), 'utf8');
const [, image = ''] = file.split(/^FROM .+\n/m).slice(1);

function said(instruction: string): string[] {
  return [...image.matchAll(new RegExp(`^${instruction} (.+)$`, 'gm'))].map(([, text = '']) => text);
}

describe('the Dockerfile', () => {
  test('starts the same programs, in the same way, as the image that tests run on Kubernetes', () => {
    const { Entrypoint, Cmd, Env, User, WorkingDir } = AGENTHUB_CONFIG;
    expect(said('ENTRYPOINT').map((text) => JSON.parse(text) as unknown)).toEqual([Entrypoint]);
    expect(said('CMD').map((text) => JSON.parse(text) as unknown)).toEqual([Cmd]);
    expect(said('USER')).toEqual([User]);
    expect(said('WORKDIR')).toEqual([WorkingDir]);
    expect(said('ENV')).toEqual(Env.filter((variable) => !variable.startsWith('PATH=')));
  });
});
