import { Readable } from 'node:stream';
import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from '@jest/globals';
import type { KubeObject } from '../../../operator/api/object.ts';
import { isExpired } from '../../../operator/kube/errors.ts';
import { WatchStream } from '../../../operator/kube/watch-stream.ts';
import { configMap } from '../../support/scripted-kube.ts';

interface Heard {
  readonly stream: WatchStream<KubeObject>;
  readonly said: string[];
  readonly ended: Promise<Error | undefined>;
}

function listen(mistake?: Error): Heard {
  const said: string[] = [];
  let end: (error?: Error) => void = () => {};
  const ended = new Promise<Error | undefined>((resolve) => (end = resolve));
  const say =
    (what: string) =>
    ({ metadata }: KubeObject): void => {
      if (mistake !== undefined) throw mistake;
      said.push(`${what} ${metadata.name}`);
    };
  const stream = new WatchStream<KubeObject>(
    {
      opened: () => said.push('opened'),
      added: say('added'),
      modified: say('modified'),
      deleted: say('deleted'),
      bookmark: (version) => said.push(`bookmark ${version}`),
      ended: (error) => end(error),
    },
    { verb: 'watch', resource: 'configmaps', key: '' },
  );
  return { stream, said, ended };
}

function response(...chunks: (string | Buffer)[]): IncomingMessage {
  return Readable.from(chunks.map((chunk) => Buffer.from(chunk))) as unknown as IncomingMessage;
}

const line = (type: string, object: object): string => `${JSON.stringify({ type, object })}\n`;

describe('a watch', () => {
  test('is told line by line, however the bytes are cut', async () => {
    const text = Buffer.from(
      line('ADDED', configMap('ä', '1')) +
        line('MODIFIED', configMap('b', '2')) +
        line('LATER', {}) +
        line('BOOKMARK', { metadata: { resourceVersion: '9' } }) +
        line('DELETED', configMap('ä', '10')),
    );
    for (const size of [1, 7, 64, text.length]) {
      const { stream, said, ended } = listen();
      const chunks = [];
      for (let from = 0; from < text.length; from += size) chunks.push(text.subarray(from, from + size));
      stream.read(response(...chunks));
      expect(await ended).toBeUndefined();
      expect(said).toEqual(['opened', 'added ä', 'modified b', 'bookmark 9', 'deleted ä']);
    }
  });

  test('says that its version is no longer kept', async () => {
    const { stream, said, ended } = listen();
    const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' };
    stream.read(response(line('ERROR', status), line('ADDED', configMap('a', '1'))));
    expect(isExpired(await ended)).toBe(true);
    expect(said).toEqual(['opened']);
  });

  test('ends with an error at what is no event, or can not be taken in', async () => {
    for (const [text, mistake] of [
      ['<html>\n', undefined],
      ['{"type":"ADDED"}\n', undefined],
      [line('ADDED', configMap('a', '1')), new Error('mistake')],
    ] as const) {
      const { stream, ended } = listen(mistake);
      stream.read(response(text, line('ADDED', configMap('b', '2'))));
      expect((await ended)?.message).toMatch(/an event of configmaps could not be taken in/);
    }
  });

  test('says nothing once it is closed', async () => {
    const { stream, said } = listen();
    const body = response(line('ADDED', configMap('a', '1')), line('ADDED', configMap('b', '2')));
    stream.read(body);
    stream.close();
    await new Promise((resolve) => body.once('close', resolve));
    expect(said).toEqual(['opened']);
  });
});
