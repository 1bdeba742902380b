import { describe, expect, test } from '@jest/globals';
import { Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { ERRORS, HubError } from '../../../src/std/errors.ts';
import type { ErrorCode } from '../../../src/std/errors.ts';
import { codeOf, errorOf, errorOfRefusal, refusalOf, statusOf } from '../../../src/wire/status.ts';

const codes = Object.keys(ERRORS) as ErrorCode[];
const details = fc.record(
  {
    field: fc.string({ unit: 'binary', minLength: 1 }),
    limit: fc.string({ minLength: 1 }),
    retryAfterMs: fc.integer({ min: 1, max: 1e9 }),
  },
  { requiredKeys: [] },
);

function facts({ code, message, field, limit, retryAfterMs }: HubError): object {
  return { code, message, field, limit, retryAfterMs };
}

describe('an error crosses gRPC', () => {
  test.each(codes)('%s keeps its code', (code) => {
    expect(errorOf(statusOf(new HubError(code, 'why'))).code).toBe(code);
  });

  test('with its message, field, limit and delay', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...codes),
        fc.string({ maxLength: 300 }),
        details,
        (code, message, facts_) => {
          const error = new HubError(code, message, facts_);
          expect(facts(errorOf(statusOf(error)))).toEqual(facts(error));
        },
      ),
    );
  });

  test('and so do refusals of one item of a batch', () => {
    fc.assert(
      fc.property(fc.constantFrom(...codes), fc.string(), details, (code, message, facts_) => {
        const error = new HubError(code, message, facts_);
        const refusal = refusalOf(7, error);
        expect(refusal.index).toBe(7);
        expect(facts(errorOfRefusal(refusal))).toEqual(facts(error));
      }),
    );
  });

  test('a delay also tells gRPC itself when to try again', () => {
    const { metadata } = statusOf(new HubError('exhausted', 'full', { retryAfterMs: 12.2 }));
    expect(metadata.get('grpc-retry-pushback-ms')).toEqual(['13']);
  });

  test('what is no HubError is internal, and nothing in a message can break the answer', () => {
    expect(statusOf(new Error('boom'))).toMatchObject({ code: 13, details: 'boom' });
    const { details: long } = statusOf(new HubError('invalid', `\ud800${'ü'.repeat(5000)}`));
    expect(long.length).toBeLessThanOrEqual(1024);
    expect(() => encodeURI(long)).not.toThrow();
  });

  test('statuses that only proxies and gRPC send have a code, too', () => {
    expect(codeOf(11)).toBe('invalid');
    expect(codeOf(2)).toBe('internal');
    expect(codeOf(99)).toBe('internal');
    expect(errorOf({ code: 14, details: 'No connection established' }).code).toBe('unavailable');
    const metadata = new Metadata();
    metadata.set('agenthub-field', '%zz');
    expect(errorOf({ code: 3, details: '', metadata }).field).toBe('%zz');
  });
});
