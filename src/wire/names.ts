import type { DescMessage, Message } from '@bufbuild/protobuf';
import { clone } from '@bufbuild/protobuf';
import { reflect } from '@bufbuild/protobuf/reflect';
import type { ReflectMessage } from '@bufbuild/protobuf/reflect';
import { bareName, DEFAULT_NAMESPACE, isIn, NAMESPACE_MARK, qualified } from '../core/namespace.ts';
import { checkAgentId } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import { asBuffer, ByteWriter, textOf } from './bytes.ts';
import { checkAddress, CheckedText } from './envelope.ts';
import { file_agenthub_v1_admin } from './gen/agenthub/v1/admin_pb.ts';
import { file_agenthub_v1_broker } from './gen/agenthub/v1/broker_pb.ts';
import { file_agenthub_v1_session } from './gen/agenthub/v1/session_pb.ts';
import { file_agenthub_v1_task } from './gen/agenthub/v1/task_pb.ts';
import { file_eventbus_eventbus } from './gen/eventbus/eventbus_pb.ts';
import { Scanner } from './scanner.ts';

/**
 * What the texts of a message are, by the names of its fields: a `name` of an agent or a mailbox, which is another one
 * inside of the cluster; `words`, in which the broker may have written such names; all others are neither. What the
 * event bus passes on as it came is none of these: what is inside of a `TaskMessage` never changes.
 */
const TEXTS: Readonly<Record<string, Readonly<Record<string, 'name' | 'words'>>>> = {
  'agenthub.v1.MailboxView': { mailbox: 'name' },
  'agenthub.v1.AgentView': { agent: 'name', mailbox: 'name' },
  'agenthub.v1.ReplayDeadLettersRequest': { mailbox: 'name' },
  'agenthub.v1.PurgeMailboxRequest': { mailbox: 'name' },
  'agenthub.v1.TaskView': { mailbox: 'name', requester: 'name', executor: 'name', dead_error: 'words' },
  'agenthub.v1.GetTaskRequest': { mailbox: 'name' },
  'agenthub.v1.CancelTaskRequest': { mailbox: 'name' },
  'agenthub.v1.ListTasksRequest': { mailbox: 'name', requester: 'name' },
  'agenthub.v1.LocateRequest': { mailbox: 'name' },
  'agenthub.v1.Refusal': { message: 'words' },
  'agenthub.v1.Attach': { mailbox: 'name', agent: 'name' },
  'agenthub.v1.CancelCall': { mailbox: 'name' },
  'agenthub.v1.Abort': { reason: 'words' },
  'agenthub.v1.Task': { to: 'name', requester: 'name' },
  'agenthub.v1.Result': { to: 'name', requester: 'name', executor: 'name', error: 'words' },
  'agenthub.v1.Progress': { to: 'name', requester: 'name', executor: 'name' },
  'eventbus.SubscribeToTasksRequest': { agent_id: 'name' },
  'eventbus.SubscribeToTaskResultsRequest': { requester_agent_id: 'name' },
};

const FILES = [
  file_agenthub_v1_admin,
  file_agenthub_v1_broker,
  file_agenthub_v1_session,
  file_agenthub_v1_task,
  file_eventbus_eventbus,
];
const SCHEMAS = new Map<string, DescMessage>(
  FILES.flatMap(({ messages }) => messages.map((schema) => [schema.typeName, schema])),
);

/** What a text of that message is, if it is one that may change: for tests, which see that none is forgotten. */
export function kindOfText(message: string, field: string): 'name' | 'words' | undefined {
  return TEXTS[message]?.[field];
}

/** Fields of serialized messages that are names, by number. */
const TASK_NAMES: ReadonlySet<number> = new Set([2, 4]);
const RESULT_NAMES: ReadonlySet<number> = new Set([2, 4, 6]);
const TO = 2;
const REQUESTER = 4;
/** Of a result. */
const ERROR = 9;

/**
 * The one place where names of a namespace become those inside of the cluster, and back.
 *
 * What comes in must not have such a name, so that nobody can name anybody of another namespace; what goes out has
 * none. Those of the default namespace stay what they are.
 */
export class Names {
  private static readonly plain = new Names(DEFAULT_NAMESPACE);
  /** '' is the default one. */
  readonly namespace: string;
  private readonly scanner = new Scanner();
  private readonly writer = new ByteWriter(1024);
  private readonly addresses = new CheckedText('task.to', checkAddress, 16_384);
  private readonly requesters = new CheckedText('task.requester', checkAgentId, 16_384);
  private readonly mark: string;

  private constructor(namespace: string) {
    this.namespace = namespace;
    this.mark = namespace + NAMESPACE_MARK;
  }

  /** Those of that namespace. */
  static of(namespace: string): Names {
    return namespace === DEFAULT_NAMESPACE ? Names.plain : new Names(namespace);
  }

  get isDefault(): boolean {
    return this === Names.plain;
  }

  /** A name inside of the cluster. @throws HubError `invalid`, naming `field`, if that is no name of a namespace. */
  enter(name: string, field: string): string {
    if (name.includes(NAMESPACE_MARK)) {
      throw new HubError('invalid', `${field}: must be Unicode text without control characters`, { field });
    }
    return name === '' ? name : qualified(this.namespace, name);
  }

  /** A name as it is in this namespace. */
  leave(name: string): string {
    return !this.isDefault && isIn(this.namespace, name) ? bareName(name) : name;
  }

  /** Words of the broker, with names as they are in this namespace. */
  words(text: string): string {
    return this.isDefault ? text : text.replaceAll(this.mark, '');
  }

  /** An error that says what it says to this namespace. */
  error(error: HubError): HubError {
    if (this.isDefault || !error.message.includes(this.mark)) return error;
    const { code, message, field, limit, retryAfterMs, cause } = error;
    return new HubError(code, this.words(message), {
      ...(field === undefined ? {} : { field }),
      ...(limit === undefined ? {} : { limit }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      cause,
    });
  }

  /** A request or a frame, whose names are those inside of the cluster afterwards. @throws HubError as {@link enter}. */
  entering<T>(message: T): T {
    if (isMessage(message)) change(message, 'name', (name, field) => this.enter(name, field));
    return message;
  }

  /**
   * An answer or a frame with names as they are in this namespace; it is a copy unless nothing is to be changed.
   *
   * @throws HubError `internal` rather than to tell of something in another namespace.
   */
  leaving<T>(message: T): T {
    if (!isMessage(message)) return message;
    const schema = SCHEMAS.get(message.$typeName);
    if (!schema) return message;
    // Parts of it may be remembered elsewhere.
    const said = this.isDefault ? message : clone(schema, message);
    change(said, 'name', (name) => this.own(this.leave(name)));
    if (!this.isDefault) change(said, 'words', (text) => this.words(text));
    return said as T;
  }

  /**
   * Writes the serialized `agenthub.v1.Task` in `bytes[start, end)` as it is inside of the cluster.
   *
   * @throws HubError `invalid`, naming the field, for names that are none, and for what is no message.
   */
  enterTask(bytes: Uint8Array, start: number, end: number, writer: ByteWriter): void {
    const { scanner, addresses, requesters } = this;
    let to: string | undefined;
    let requester: string | undefined;
    scanner.open(bytes, start, end);
    for (let at = start; scanner.next(); at = scanner.at) {
      if (!TASK_NAMES.has(scanner.field)) {
        writer.bytes(bytes, at, scanner.at);
        continue;
      }
      const isTo = scanner.field === TO;
      scanner.expectBytes(isTo ? 'task.to' : 'task.requester');
      const text = isTo ? addresses : requesters;
      if (scanner.stop > scanner.start) text.set(bytes, scanner.start, scanner.stop);
      const name = scanner.stop > scanner.start ? qualified(this.namespace, text.text) : '';
      if (isTo) to = name;
      else requester = name;
    }
    if (to !== undefined) field(writer, TO, to);
    if (requester !== undefined) field(writer, REQUESTER, requester);
  }

  /** The serialized `Task` or `Result` in `bytes[start, end)` as it is in this namespace; valid until the next one. */
  leaveBody(bytes: Uint8Array, start: number, end: number, isResult: boolean): Buffer {
    const { scanner, writer } = this;
    const names = isResult ? RESULT_NAMES : TASK_NAMES;
    writer.length = 0;
    scanner.open(bytes, start, end);
    for (let at = start; scanner.next(); at = scanner.at) {
      const isName = names.has(scanner.field);
      if (!isName && !(isResult && scanner.field === ERROR)) {
        writer.bytes(bytes, at, scanner.at);
        continue;
      }
      const text = textOf(asBuffer(bytes), scanner.start, scanner.stop);
      field(writer, scanner.field, isName ? this.leave(text) : this.words(text));
    }
    return writer.written();
  }

  private own(name: string): string {
    if (!name.includes(NAMESPACE_MARK)) return name;
    throw new HubError('internal', 'the answer would have told of another namespace; please report this');
  }
}

function field(writer: ByteWriter, number: number, text: string): void {
  writer.u8((number << 3) | 2);
  writer.string(text);
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && '$typeName' in value;
}

/** Changes the texts of that kind in the message, and in those inside of it. */
function change(
  message: Message,
  kind: 'name' | 'words',
  changed: (text: string, field: string) => string,
): void {
  const schema = SCHEMAS.get(message.$typeName);
  if (schema) changeIn(reflect(schema, message), kind, changed);
}

function changeIn(
  message: ReflectMessage,
  kind: 'name' | 'words',
  changed: (text: string, field: string) => string,
): void {
  const texts = TEXTS[message.desc.typeName];
  for (const one of message.fields) {
    if (one.fieldKind === 'message') {
      if (message.isSet(one)) changeIn(message.get(one), kind, changed);
    } else if (one.fieldKind === 'list' && one.listKind === 'message') {
      for (const item of message.get(one)) changeIn(item as ReflectMessage, kind, changed);
    } else if (texts?.[one.name] === kind && one.fieldKind === 'scalar') {
      const text = message.get(one) as string;
      const other = text === '' ? text : changed(text, one.name);
      if (other !== text) message.set(one, other);
    }
  }
}
