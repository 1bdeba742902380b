import { fnv1aText } from '../core/fnv1a.ts';
import type { IdKey } from '../core/id-hash.ts';
import { hashId } from '../core/id-hash.ts';
import { bareName, isBroadcast } from '../core/namespace.ts';
import { BROADCAST, checkAgentId, checkMailbox, checkName } from '../core/shard.ts';
import { Flag, Kind } from '../core/task-table.ts';
import { HubError } from '../std/errors.ts';
import { ByteWriter, textOf } from './bytes.ts';
import type { Priority } from './gen/agenthub/v1/task_pb.ts';
import type { EntryHead } from './entry.ts';
import { checkEntry, checkUtf8, Scanner } from './scanner.ts';
import { TextCache } from './text-cache.ts';

/** Field numbers of `agenthub.v1.Task`. */
const TaskField = {
  id: 1,
  to: 2,
  type: 3,
  requester: 4,
  priority: 5,
  deadline: 6,
  notBefore: 7,
  maxAttempts: 8,
  backoff: 9,
  maxRun: 10,
  contentType: 11,
  headers: 12,
  context: 13,
  payload: 14,
} as const;

/** `agenthub.v1.Priority` → level: 0 is handed out last, 4 first. */
const LEVEL = [1, 0, 1, 2, 3, 4];
const PRIORITY: readonly Priority[] = [1, 2, 3, 4, 5];

/** The `agenthub.v1.Priority` of a level. */
export function priorityOf(level: number): Priority {
  return PRIORITY[level] ?? 0;
}

/**
 * Reads the fields of a serialized `agenthub.v1.Task` that the broker goes by, and never its
 * payload. One object is used again and again; its strings are remembered as long as they repeat,
 * which spares most of the work in a batch for one mailbox.
 */
export class TaskScan {
  mailbox = '';
  type = '';
  requester = '';
  readonly head: EntryHead = {
    kind: Kind.task,
    priority: 1,
    flags: 0,
    maxAttempts: 0,
    hash: new Uint32Array(4),
    originHigh: 0,
    originLow: 0,
    deadline: 0,
    notBefore: 0,
  };
  /** FNV-1a-32 of the mailbox, which its shard follows from. */
  mailboxHash = 0;
  /** Where the id stands; empty if there is none. */
  idStart = 0;
  idEnd = 0;
  private readonly key: IdKey;
  private readonly scanner = new Scanner();
  private readonly entry = new Scanner();
  private readonly mailboxes: CheckedText;
  private readonly types = new CheckedText('task.type', checkName, 1024);
  private readonly requesters: CheckedText;
  private readonly qualified: boolean;

  /**
   * @param key that of the log, which the ids of its tasks are named with.
   * @param qualified the names are those inside of the cluster, with their namespaces; else they must not have any.
   */
  constructor(key: IdKey, qualified = false) {
    this.key = key;
    this.qualified = qualified;
    const inside = (check: typeof checkAddress) =>
      qualified ? (text: string, field: string) => check(bareName(text), field) : check;
    this.mailboxes = new CheckedText('task.to', inside(checkAddress), 262_144);
    this.requesters = new CheckedText('task.requester', inside(checkAgentId), 65_536);
  }

  /**
   * Reads and checks the task in `bytes[start, end)`.
   *
   * @throws HubError `invalid`, naming the field.
   */
  read(bytes: Uint8Array, start: number, end: number): void {
    const { scanner, head } = this;
    let toStart = 0;
    let toEnd = 0;
    let typeStart = 0;
    let typeEnd = 0;
    let requesterStart = 0;
    let requesterEnd = 0;
    this.idStart = 0;
    this.idEnd = 0;
    head.flags = 0;
    head.priority = 1;
    head.maxAttempts = 0;
    head.deadline = 0;
    head.notBefore = 0;
    scanner.open(bytes, start, end);
    while (scanner.next()) {
      switch (scanner.field) {
        case TaskField.id:
          scanner.expectBytes('task.id');
          this.idStart = scanner.start;
          this.idEnd = scanner.stop;
          break;
        case TaskField.to:
          scanner.expectBytes('task.to');
          toStart = scanner.start;
          toEnd = scanner.stop;
          break;
        case TaskField.type:
          scanner.expectBytes('task.type');
          typeStart = scanner.start;
          typeEnd = scanner.stop;
          break;
        case TaskField.requester:
          scanner.expectBytes('task.requester');
          requesterStart = scanner.start;
          requesterEnd = scanner.stop;
          break;
        case TaskField.priority: {
          scanner.expectVarint('task.priority');
          const level = LEVEL[scanner.value];
          if (level === undefined) throw bad('task.priority', 'is not a known priority; use 0 to 5');
          head.priority = level;
          break;
        }
        case TaskField.deadline:
          scanner.expectVarint('task.deadline_ms');
          head.deadline = time(scanner.value, 'task.deadline_ms');
          break;
        case TaskField.notBefore:
          scanner.expectVarint('task.not_before_ms');
          head.notBefore = time(scanner.value, 'task.not_before_ms');
          break;
        case TaskField.maxAttempts:
          scanner.expectVarint('task.max_attempts');
          if (scanner.value > 255) throw bad('task.max_attempts', 'must be at most 255');
          head.maxAttempts = scanner.value;
          break;
        case TaskField.maxRun:
          scanner.expectVarint('task.max_run_ms');
          if (scanner.value > 0) head.flags |= Flag.runLimit;
          break;
        case TaskField.backoff:
          scanner.expectVarint('task.backoff_ms');
          break;
        // The broker does not go by these, but a task that its receiver can't decode would end the session.
        case TaskField.contentType:
          scanner.expectBytes('task.content_type');
          checkUtf8(bytes, scanner.start, scanner.stop, 'task.content_type');
          break;
        case TaskField.headers:
          scanner.expectBytes('task.headers');
          checkEntry(this.entry, bytes, scanner.start, scanner.stop, 'task.headers');
          break;
        case TaskField.context:
          scanner.expectBytes('task.context_id');
          checkUtf8(bytes, scanner.start, scanner.stop, 'task.context_id');
          if (scanner.stop - scanner.start > MAX_CONTEXT_BYTES)
            throw bad('task.context_id', `must have at most ${MAX_CONTEXT_BYTES} bytes`);
          break;
        case TaskField.payload:
          scanner.expectBytes('task.payload');
          break;
        default:
      }
    }
    if (toEnd === toStart)
      throw bad('task.to', 'must not be empty; name an agent, a capability (type:…), or *');
    if (this.idEnd - this.idStart > MAX_ID_BYTES)
      throw bad('task.id', `must have at most ${MAX_ID_BYTES} bytes`);
    checkUtf8(bytes, this.idStart, this.idEnd, 'task.id');
    this.mailboxes.set(bytes, toStart, toEnd);
    this.mailbox = this.mailboxes.text;
    const forAll = this.qualified ? isBroadcast(this.mailbox) : this.mailbox === BROADCAST;
    head.kind = forAll ? Kind.broadcast : Kind.task;
    this.type = '';
    if (typeEnd > typeStart) {
      this.types.set(bytes, typeStart, typeEnd);
      this.type = this.types.text;
    }
    this.requester = '';
    if (requesterEnd > requesterStart) {
      head.flags |= Flag.answers;
      this.requesters.set(bytes, requesterStart, requesterEnd);
      this.requester = this.requesters.text;
    }
    hashId(bytes, this.idStart, this.idEnd, this.key, head.hash);
    this.mailboxHash = this.mailboxes.hash;
    head.hash[0] = head.hash[0]! ^ this.mailboxHash;
  }
}

/** The longest context id, in bytes of UTF-8: results repeat it. */
const MAX_CONTEXT_BYTES = 1024;

/** The longest task id, in bytes of UTF-8. */
export const MAX_ID_BYTES = 256;

/** The 128-bit name that the id has in that mailbox: what idempotence goes by. */
export function taskHash(key: IdKey, mailbox: string, id: string, out: Uint32Array): void {
  const bytes = Buffer.from(id);
  hashId(bytes, 0, bytes.length, key, out);
  out[0] = out[0]! ^ fnv1aText(mailbox);
}

/** The first word of {@link taskHash} when the same id is sent to another mailbox. */
export function rehashed(word: number, from: string, to: string): number {
  return (word ^ fnv1aText(from) ^ fnv1aText(to)) >>> 0;
}

/** The facts of a task that are needed seldom: when it fails, ends, or is looked at. */
export interface TaskFacts {
  readonly id: string;
  readonly to: string;
  readonly type: string;
  readonly requester: string;
  readonly backoffMs: number;
  readonly maxRunMs: number;
  readonly contextId: string;
  readonly contentType: string;
}

/** Reads {@link TaskFacts} from a serialized task that was checked when it was accepted. */
export function taskFacts(bytes: Uint8Array): TaskFacts {
  const scanner = new Scanner();
  const facts = {
    id: '',
    to: '',
    type: '',
    requester: '',
    backoffMs: 0,
    maxRunMs: 0,
    contextId: '',
    contentType: '',
  };
  scanner.open(bytes, 0, bytes.length);
  while (scanner.next()) {
    const { field, start, stop } = scanner;
    if (field === TaskField.id) facts.id = textOf(bytes, start, stop);
    else if (field === TaskField.to) facts.to = textOf(bytes, start, stop);
    else if (field === TaskField.type) facts.type = textOf(bytes, start, stop);
    else if (field === TaskField.requester) facts.requester = textOf(bytes, start, stop);
    else if (field === TaskField.backoff) facts.backoffMs = scanner.value;
    else if (field === TaskField.maxRun) facts.maxRunMs = scanner.value;
    else if (field === TaskField.context) facts.contextId = textOf(bytes, start, stop);
    else if (field === TaskField.contentType) facts.contentType = textOf(bytes, start, stop);
  }
  return facts;
}

/** Where the facts stand in a serialized task that its result repeats. One object is used again and again. */
export class EchoScan {
  idStart = 0;
  idEnd = 0;
  typeStart = 0;
  typeEnd = 0;
  requesterStart = 0;
  requesterEnd = 0;
  contextStart = 0;
  contextEnd = 0;
  private readonly scanner = new Scanner();

  /** Reads the task in `bytes[start, end)`, which was checked when it was accepted. */
  read(bytes: Uint8Array, start: number, end: number): void {
    const { scanner } = this;
    this.idStart = this.idEnd = 0;
    this.typeStart = this.typeEnd = 0;
    this.requesterStart = this.requesterEnd = 0;
    this.contextStart = this.contextEnd = 0;
    scanner.open(bytes, start, end);
    while (scanner.next()) {
      switch (scanner.field) {
        case TaskField.id:
          this.idStart = scanner.start;
          this.idEnd = scanner.stop;
          break;
        case TaskField.type:
          this.typeStart = scanner.start;
          this.typeEnd = scanner.stop;
          break;
        case TaskField.requester:
          this.requesterStart = scanner.start;
          this.requesterEnd = scanner.stop;
          break;
        case TaskField.context:
          this.contextStart = scanner.start;
          this.contextEnd = scanner.stop;
          break;
        default:
      }
    }
  }
}

/** The task with an id appended, for tasks that came without: in protobuf the last value counts. */
export function withId(task: Uint8Array, start: number, end: number, id: string): Buffer {
  const writer = new ByteWriter(end - start + id.length + 4);
  writer.bytes(task, start, end);
  writer.u8((TaskField.id << 3) | 2);
  writer.varint(id.length);
  writer.utf8(id);
  return writer.take();
}

/** Remembers the good texts of a field. */
export class CheckedText {
  text = '';
  /** FNV-1a-32 of the text. */
  hash = 0;
  private readonly known: TextCache;
  private readonly field: string;
  private readonly check: (text: string, field: string) => void;

  constructor(field: string, check: (text: string, field: string) => void, places: number) {
    this.field = field;
    this.check = check;
    this.known = new TextCache(places);
  }

  /** Takes the text in `bytes[start, end)`; checks it unless it is known to be good. */
  set(bytes: Uint8Array, start: number, end: number): void {
    const { known } = this;
    let text = known.find(bytes, start, end);
    if (text === undefined) {
      checkUtf8(bytes, start, end, this.field);
      text = textOf(bytes, start, end);
      this.check(text, this.field);
      known.add(text);
    }
    this.text = text;
    this.hash = known.hash;
  }
}

/** Refuses all but agents, capabilities, or all: the other mailboxes are the broker's to fill. */
export function checkAddress(mailbox: string, field: string): void {
  checkMailbox(mailbox, field);
  if (mailbox.startsWith('reply:') || mailbox.startsWith('dead:')) {
    throw bad(field, `must be an agent, a capability (type:…) or *; only the broker writes to ${mailbox}`);
  }
}

function time(value: number, field: string): number {
  if (value > 8.64e15) throw bad(field, 'must be Unix milliseconds');
  return value;
}

function bad(field: string, what: string): HubError {
  return new HubError('invalid', `${field} ${what}`, { field });
}
