import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const ROOT = join(import.meta.dirname, '../..');

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly integrity?: string; readonly link?: boolean; readonly resolved?: string }>
  >;
}

const json = <T>(path: string): T => JSON.parse(readFileSync(join(ROOT, path), 'utf8')) as T;
const { dependencies, devDependencies } = json<Manifest>('package.json');

describe('dependencies', () => {
  test('are each justified, and what is justified is there', () => {
    const page = readFileSync(join(ROOT, 'docs/dependencies.md'), 'utf8');
    const rows = [...page.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name);
    expect(rows.toSorted()).toEqual(Object.keys(dependencies).toSorted());
  });

  test('are each loaded by something that is shipped', () => {
    const sources = globSync(['src/**/*.ts', 'operator/**/*.ts'], {
      cwd: ROOT,
      exclude: ['src/wire/gen/**'],
    });
    const text = sources.map((path) => readFileSync(join(ROOT, path), 'utf8')).join('\n');
    const unused = Object.keys(dependencies).filter(
      (name) => !new RegExp(`['"]${name}(/[^'"]*)?['"]`).test(text),
    );
    expect(unused).toEqual([]);
  });

  test('are pinned to one version, and locked by hash', () => {
    for (const version of Object.values({ ...dependencies, ...devDependencies }))
      expect(version).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/);
    const { packages } = json<Lock>('package-lock.json');
    const loose = Object.entries(packages).filter(
      ([path, { integrity, link }]) => path !== '' && link !== true && integrity === undefined,
    );
    expect(loose.map(([path]) => path)).toEqual([]);
  });
});
