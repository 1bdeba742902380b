import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { configKeys } from '../../src/config/keys.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Pages that programs write; their links count, their words are checked where they are made. */
const WRITTEN = new Set(['docs/brokercluster.md', 'docs/cli.md', 'docs/configuration.md', 'docs/metrics.md']);

const pages = globSync(['*.md', 'docs/**/*.md', 'src/README.md'], { cwd: ROOT }).map((path) => ({
  path,
  text: read(path),
}));
const handwritten = pages.filter(({ path }) => !WRITTEN.has(path) && !path.startsWith('docs/benchmarks/'));

describe('the documents', () => {
  test('link to what is there', () => {
    const broken = pages.flatMap(({ path, text }) =>
      linksOf(text)
        .filter((link) => !leadsSomewhere(path, link))
        .map((link) => `${path}: ${link}`),
    );
    expect(broken).toEqual([]);
  });

  test('are all found from the README', () => {
    const found = new Set(['README.md']);
    for (const path of found) {
      for (const link of linksOf(read(path))) {
        const target = targetOf(path, link);
        if (target.endsWith('.md') && existsSync(join(ROOT, target))) found.add(target);
      }
    }
    const lost = pages
      .map(({ path }) => path)
      .filter((path) => !found.has(path) && !path.startsWith('docs/benchmarks/'));
    expect(lost).toEqual([]);
  });

  test('name targets that make knows', () => {
    const targets = new Set(read('Makefile').match(/^[a-z][a-z-]*(?=:)/gm));
    expect(unknown(/\bmake ([a-z][a-z-]*)/g, (target) => targets.has(target))).toEqual([]);
  });

  test('name commands that the command line knows', () => {
    const commands = (read('docs/cli.md').match(/^## agenthub .+$/gm) ?? []).map((line) =>
      line.split(' ').slice(2),
    );
    const knows = (noun: string, verb: string | undefined): boolean =>
      commands.some(
        ([first, second]) =>
          first === noun && (second === undefined || verb === undefined || second === verb),
      );
    expect(unknown(/(?<![\w/])agenthub ([a-z]+)(?: ([a-z]+)\b)?/g, knows)).toEqual([]);
  });

  test('name keys that can be configured', () => {
    const keys = new Set(configKeys().map(({ key }) => key));
    const sections = new Set([...keys].map((key) => key.split('.')[0]));
    const named = /(?<![\w./-])([a-z]+)\.([a-z]\w*)(?![\w./-])/g;
    expect(unknown(named, (section, key) => !sections.has(section) || keys.has(`${section}.${key}`))).toEqual(
      [],
    );
  });

  test('name metrics that are measured', () => {
    const metrics = new Set(read('docs/metrics.md').match(/\b(agenthub|process|nodejs)_\w+/g));
    const named = /\b((?:agenthub|process|nodejs)_\w+)/g;
    expect(unknown(named, (metric) => metrics.has(metric))).toEqual([]);
  });
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

function linksOf(text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link));
}

function targetOf(path: string, link: string): string {
  const [file = ''] = link.split('#');
  return file === '' ? path : relative(ROOT, join(ROOT, dirname(path), file));
}

function leadsSomewhere(path: string, link: string): boolean {
  const target = targetOf(path, link);
  const anchor = link.split('#')[1];
  if (!existsSync(join(ROOT, target))) return false;
  return anchor === undefined || anchorsOf(read(target)).has(anchor);
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): Set<string> {
  const headings = [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.+)$/gm)];
  return new Set(
    headings.map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/\s/g, '-'),
    ),
  );
}

/** What the code in handwritten pages names by `pattern`, and `knows` does not know. */
function unknown(pattern: RegExp, knows: (...names: [string, string | undefined]) => boolean): string[] {
  return handwritten.flatMap(({ path, text }) =>
    codeOf(text).flatMap((code) =>
      [...code.matchAll(pattern)]
        .filter(([, first = '', second]) => !knows(first, second))
        .map(([match]) => `${path}: ${match}`),
    ),
  );
}

/** Code spans, and the lines of code blocks that are neither programs nor pictures. */
function codeOf(text: string): string[] {
  const blocks = [...text.matchAll(/^```(?:sh|ini)\n([\s\S]*?)^```/gm)].flatMap(([, code = '']) =>
    code.split('\n'),
  );
  const prose = text.replace(/^```[\s\S]*?^```/gm, '');
  return [...blocks, ...[...prose.matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)];
}
