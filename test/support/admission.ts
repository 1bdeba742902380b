import type { Broker } from '../../src/broker/broker.ts';
import type { Admission } from '../../src/edge/calls.ts';
import type { TaskFinder } from '../../src/edge/task-finder.ts';
import { ANONYMOUS } from '../../src/trust/principal.ts';
import { Names } from '../../src/wire/names.ts';
import { Rights } from '../../src/trust/rights.ts';

const rights = Rights.of(ANONYMOUS, undefined);

/** Somebody who may do everything that agents do, for tests of something else. */
export const ANYBODY: Admission = {
  names: Names.of(''),
  apart: false,
  principal: ANONYMOUS,
  peer: 'test',
  rights,
  judged: () => rights,
  stands: () => true,
  require() {},
  refuse(refusal) {
    throw refusal;
  },
  guard: () => undefined,
};

/** Cancels for such a one. */
export function finderOf(broker: Broker): Pick<TaskFinder, 'cancel'> {
  return {
    cancel: ({ mailbox, taskId, reason }, _by, done) => broker.cancel(mailbox, taskId, reason, done),
  };
}
