import { describe, expect, test } from '@jest/globals';
import { type Refused, Ticket } from '../../../src/broker/ticket.ts';
import { HubError } from '../../../src/std/errors.ts';

function ticketOf(count: number): { ticket: Ticket; settled: (readonly Refused[])[] } {
  const settled: (readonly Refused[])[] = [];
  return { ticket: new Ticket(count, ({ refused }) => settled.push(refused)), settled };
}

describe('the outcomes of a batch', () => {
  test('are told once, when all are there', () => {
    const { ticket, settled } = ticketOf(4);
    const error = new HubError('exhausted', 'full');
    ticket.done(2);
    ticket.refuse(3, error);
    expect(settled).toEqual([]);
    ticket.done(1);
    expect(settled).toEqual([[{ index: 3, error }]]);
  });

  test('of an empty batch are there at once', () => {
    expect(ticketOf(0).settled).toEqual([[]]);
  });
});
