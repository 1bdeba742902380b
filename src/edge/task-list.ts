import { create } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Owner } from '../broker/owner.ts';
import type { Codec, Done, Question, Scoped } from '../broker/question.ts';
import { message, scoped } from '../broker/question.ts';
import type { ShardQuestion } from '../broker/router.ts';
import { scanTasks, stateOf, viewSlot } from '../broker/tasks.ts';
import { laneOf } from '../core/placement.ts';
import { checkQualified, isIn } from '../core/namespace.ts';
import { BROADCAST } from '../core/shard.ts';
import { Kind } from '../core/task-table.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { ByteWriter } from '../wire/bytes.ts';
import type { ListTasksRequest, ListTasksResponse, TaskView } from '../wire/gen/agenthub/v1/broker_pb.ts';
import {
  Broker as BrokerService,
  ListTasksRequestSchema,
  ListTasksResponseSchema,
  TaskStateSchema,
  TaskViewSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import { SpanReader } from '../wire/span-reader.ts';
import type { Admission } from './calls.ts';
import { pageSize } from './page.ts';
import { concealed } from './task-finder.ts';

/** Of whole tasks, a page takes about so many bytes at most, so that one message between brokers carries it. */
const PAGE_BYTES = 3 * 1024 * 1024;

/** Where a task stands among all tasks of the cluster. */
interface Place {
  readonly shard: number;
  readonly order: number;
}

/** The first tasks of some shards, after a place. */
interface Part {
  readonly rows: readonly (Place & { readonly view: TaskView })[];
  /** There are more after this one; `undefined`: there are no more. */
  readonly until: Place | undefined;
}

/** Lists tasks of the whole cluster, in the order of their shards and of acceptance there. */
export class TaskList {
  private readonly broker: Broker;
  private readonly clock: Clock;
  private readonly question: ShardQuestion<Scoped<ListTasksRequest>, Part>;

  constructor(broker: Broker, clock: Clock) {
    this.broker = broker;
    this.clock = clock;
    this.question = broker.router.aboutShards(QUESTION, true, (request, shards, done) =>
      this.local(request, shards, done),
    );
  }

  /** One page, for somebody who may read what is asked for: the mailbox, or what an agent has asked for. */
  list(request: ListTasksRequest, admission: Admission, done: Done<ListTasksResponse>): void {
    const { broker, question } = this;
    const { mailbox, requester, states } = request;
    const { rights, names } = admission;
    const size = pageSize(request.pageSize);
    parseToken(request.pageToken);
    for (const state of states) {
      if (TaskStateSchema.value[state]) continue;
      throw new HubError('invalid', `states has the unknown state ${state}`, { field: 'states' });
    }
    const merged: Done<readonly Part[]> = (error, parts) => {
      if (error) done(error, undefined);
      else {
        const page = pageOf(parts, size);
        for (const view of page.tasks) concealed(view, rights);
        done(undefined, page);
      }
    };
    if (mailbox !== '') checkQualified(mailbox, 'mailbox');
    const isAsker = requester !== '' && rights.may({ does: 'be', to: requester });
    if (!isAsker) admission.require({ does: 'read', to: mailbox === '' ? BROADCAST : mailbox }, 'mailbox');
    // Some of a mailbox that has moved, or is split, may be in any shard.
    const asked = { namespace: names.namespace, request };
    if (mailbox === '' || !broker.atlas.isUntouched) return question.ofAll(asked, merged);
    question.ofShard(broker.shardOf(mailbox), asked, (error, part) =>
      error ? merged(error, undefined) : merged(undefined, [part]),
    );
  }

  private local(
    { namespace, request }: Scoped<ListTasksRequest>,
    shards: readonly number[],
    done: Done<Part>,
  ): void {
    const { broker, clock } = this;
    const size = pageSize(request.pageSize);
    const after = parseToken(request.pageToken);
    const now = clock.now();
    const states = new Set(request.states);
    const owners = shards.map((shard) => broker.shards.owner(shard)!);
    const found: (Place & { readonly owner: Owner; readonly slot: number; readonly tag: number })[] = [];
    const shorten = (): void => {
      found.sort(compare);
      found.length = Math.min(found.length, size + 1);
    };
    const wanted = (owner: Owner, slot: number): boolean => {
      const { tasks, mailboxes, types } = owner.state;
      if (tasks.kind[slot] === Kind.broadcast) return false;
      if (compare({ shard: owner.shard, order: tasks.order[slot]! }, after) <= 0) return false;
      const name = mailboxes.name(tasks.mailbox[slot]!);
      if (request.mailbox === '' ? !isIn(namespace, name) : !isPartOf(name, request.mailbox)) return false;
      if (request.type !== '' && types.text(tasks.type[slot]!) !== request.type) return false;
      if (states.size > 0 && !states.has(stateOf(owner, slot, now))) return false;
      return request.requester === '' || owner.endings.facts(slot).requester === request.requester;
    };
    const visit = (owner: Owner, slot: number): boolean => {
      if (!wanted(owner, slot)) return true;
      const { order, tag } = owner.state.tasks;
      found.push({ shard: owner.shard, order: order[slot]!, owner, slot, tag: tag[slot]! });
      if (found.length > 4 * (size + 1)) shorten();
      return true;
    };
    scanTasks({ owners }, clock, visit, () => {
      shorten();
      const rows: (Place & { view: TaskView })[] = [];
      let bytes = 0;
      for (const { shard, order, owner, slot, tag } of found.slice(0, size)) {
        if (owner.state.find(order, tag) !== slot) continue;
        const view = create(TaskViewSchema, viewSlot(broker, owner, slot, now, request.includeTask));
        if (request.includeTask) bytes += view.payloadBytes;
        if (bytes > PAGE_BYTES && rows.length > 0) return done(undefined, { rows, until: rows.at(-1) });
        rows.push({ shard, order, view });
      }
      done(undefined, { rows, until: found.length > size ? found[size - 1] : undefined });
    });
  }
}

/** How many are on the page, and what is after it, depends on all parts together. */
function pageOf(parts: readonly Part[], size: number): ListTasksResponse {
  // Where one part ends that has more, what the others have after that is not known to be next.
  const until = parts
    .flatMap((part) => (part.until ? [part.until] : []))
    .reduce<Place | undefined>((first, one) => (!first || compare(one, first) < 0 ? one : first), undefined);
  const rows = parts
    .flatMap((part) => part.rows)
    .filter((row) => !until || compare(row, until) <= 0)
    .sort(compare);
  const page = rows.slice(0, size);
  const next = rows.length > size ? page.at(-1) : until;
  return create(ListTasksResponseSchema, {
    tasks: page.map(({ view }) => view),
    nextPageToken: next ? `${next.shard}.${next.order}` : '',
  });
}

function compare(a: Place, b: Place): number {
  return a.shard - b.shard || a.order - b.order;
}

function parseToken(token: string): Place {
  if (token === '') return { shard: -1, order: 0 };
  const match = /^(\d{1,5})\.(\d{1,16})$/.exec(token);
  if (!match) throw new HubError('invalid', 'page_token is not one of this broker', { field: 'page_token' });
  return { shard: Number(match[1]), order: Number(match[2]) };
}

const tasks = message(ListTasksResponseSchema);

/** `u8 more | u16 shard | f64 order | u32 rows | f64 order … | ListTasksResponse`, little-endian. */
const part: Codec<Part> = {
  write({ rows, until }) {
    const writer = new ByteWriter();
    writer.u8(until ? 1 : 0);
    writer.u16(until?.shard ?? 0);
    writer.f64(until?.order ?? 0);
    writer.u32(rows.length);
    for (const { order } of rows) writer.f64(order);
    const views = create(ListTasksResponseSchema, { tasks: rows.map(({ view }) => view) });
    writer.bytes(tasks.write(views));
    return writer.take();
  },
  read(bytes) {
    const reader = new SpanReader('a list of tasks of another broker');
    reader.open(bytes, 0, bytes.length);
    const more = reader.u8() === 1;
    const until = { shard: reader.u16(), order: reader.f64() };
    const orders: number[] = [];
    for (let left = reader.u32(); left > 0; left--) orders.push(reader.f64());
    const { tasks: views } = tasks.read(bytes.subarray(reader.at));
    if (views.length !== orders.length) throw reader.corrupt('is not of one piece');
    const rows = views.map((view, index) => ({ shard: view.shard, order: orders[index]!, view }));
    return { rows, until: more ? until : undefined };
  },
};

const QUESTION: Question<Scoped<ListTasksRequest>, Part> = {
  name: BrokerService.method.listTasks.name,
  request: scoped(message(ListTasksRequestSchema)),
  response: part,
};

/** Whether that is the mailbox, or a part of it. */
function isPartOf(name: string, mailbox: string): boolean {
  return name === mailbox || (name.startsWith(mailbox) && laneOf(name)?.base === mailbox);
}
