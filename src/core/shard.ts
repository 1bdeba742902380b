import { HubError } from '../std/errors.ts';
import { fnv1a, fnv1aText } from './fnv1a.ts';

/**
 * What a mailbox id says, by its form:
 *
 * | id                        | whose queue it is                                             |
 * | ------------------------- | ------------------------------------------------------------- |
 * | `planner`                 | an agent's; `planner@eu-west` names its region too            |
 * | `type:<task type>`        | a capability's, shared by competing workers                   |
 * | `reply:<agent>`           | the results for an agent                                      |
 * | `reply:<agent>#<session>` | one session's own lane of these results                       |
 * | `dead:<mailbox>`          | what the broker gave up on in that mailbox                    |
 * | `*`                       | nobody's: it stands for every agent that listens (broadcast)  |
 */
export type Mailbox =
  | { readonly kind: 'agent'; readonly agent: string }
  | { readonly kind: 'capability'; readonly taskType: string }
  | { readonly kind: 'reply'; readonly agent: string; readonly session: string | undefined }
  | { readonly kind: 'dead'; readonly of: string }
  | { readonly kind: 'broadcast' };

/** The mailbox id that stands for every agent. */
export const BROADCAST = '*';

/** The longest agent id, task type or session id, in bytes of UTF-8. */
export const MAX_NAME_BYTES = 256;

const TYPE = 'type:';
const REPLY = 'reply:';
const DEAD = 'dead:';
const RESERVED = [TYPE, REPLY, DEAD];
const SESSION_MARK = '#';
const REGION_MARK = '@';

const REPLY_BYTES = new TextEncoder().encode(REPLY);
const DEAD_BYTES = new TextEncoder().encode(DEAD);
const SESSION_BYTE = SESSION_MARK.charCodeAt(0);

/** The mailbox of an agent's results, or of one session's lane of them. */
export function replyMailbox(agent: string, session?: string): string {
  return session === undefined ? REPLY + agent : REPLY + agent + SESSION_MARK + session;
}

/** The mailbox that workers of a task type share. */
export function capabilityMailbox(taskType: string): string {
  return TYPE + taskType;
}

/** The mailbox of what was given up on in `mailbox`. */
export function deadMailbox(mailbox: string): string {
  return DEAD + mailbox;
}

/** Reads a mailbox id by its form alone. Only {@link checkMailbox} says whether it is a good one. */
export function parseMailbox(id: string): Mailbox {
  if (id === BROADCAST) return { kind: 'broadcast' };
  if (id.startsWith(TYPE)) return { kind: 'capability', taskType: id.slice(TYPE.length) };
  if (id.startsWith(DEAD)) return { kind: 'dead', of: id.slice(DEAD.length) };
  if (!id.startsWith(REPLY)) return { kind: 'agent', agent: id };
  const mark = id.indexOf(SESSION_MARK);
  if (mark < 0) return { kind: 'reply', agent: id.slice(REPLY.length), session: undefined };
  return { kind: 'reply', agent: id.slice(REPLY.length, mark), session: id.slice(mark + 1) };
}

/** The region that an agent id ends with (`eu-west` of `planner@eu-west`), or ''. */
export function regionOf(agent: string): string {
  const mark = agent.lastIndexOf(REGION_MARK);
  return mark < 0 ? '' : agent.slice(mark + 1);
}

/**
 * The agent or capability that a mailbox belongs to, in whose shard it therefore lives:
 * `dead:reply:planner#7` → `planner`, `dead:type:ocr` → `type:ocr`.
 */
export function home(mailbox: string): string {
  const start = homeStart(mailbox);
  return start === 0 ? mailbox : mailbox.slice(start, homeEnd(mailbox, start));
}

/** The shard, 0 to `shards - 1`, that holds a mailbox: FNV-1a-32 of its {@link home}, modulo. */
export function shardOf(mailbox: string, shards: number): number {
  const start = homeStart(mailbox);
  return fnv1aText(mailbox, start, homeEnd(mailbox, start)) % shards;
}

/** {@link shardOf} of the mailbox id that stands in `bytes[start, end)` as UTF-8. */
export function shardOfBytes(bytes: Uint8Array, start: number, end: number, shards: number): number {
  let from = start;
  while (startsWith(bytes, from, end, DEAD_BYTES)) from += DEAD_BYTES.length;
  if (!startsWith(bytes, from, end, REPLY_BYTES)) return fnv1a(bytes, from, end) % shards;
  from += REPLY_BYTES.length;
  let to = from;
  while (to < end && bytes[to] !== SESSION_BYTE) to++;
  return fnv1a(bytes, from, to) % shards;
}

/**
 * Refuses what can't be an agent id: it has 1 to 256 bytes of well-formed UTF-8, no control
 * character and no `#`, does not start with `type:`, `reply:` or `dead:`, and is not `*`.
 *
 * @throws HubError `invalid`, naming `field`.
 */
export function checkAgentId(text: string, field: string): void {
  checkName(text, field);
  if (text === BROADCAST) {
    throw invalid(field, `"${BROADCAST}" means every agent; choose another agent id`);
  }
  if (text.includes(SESSION_MARK)) {
    throw invalid(field, `an agent id must not contain "${SESSION_MARK}"; choose another agent id`);
  }
  for (const prefix of RESERVED) {
    if (text.startsWith(prefix)) {
      throw invalid(field, `the prefix "${prefix}" is reserved; choose another agent id`);
    }
  }
}

/**
 * Refuses what can't be a task type or session id: it has 1 to 256 bytes of well-formed UTF-8 and
 * no control character.
 *
 * @throws HubError `invalid`, naming `field`.
 */
export function checkName(text: string, field: string): void {
  const bytes = text.length <= MAX_NAME_BYTES ? nameBytes(text) : Infinity;
  if (bytes === 0) throw invalid(field, 'must not be empty');
  if (bytes === BAD_CHARACTER) {
    throw invalid(field, 'must be Unicode text without control characters');
  }
  if (bytes > MAX_NAME_BYTES) {
    throw invalid(field, `is too long; at most ${MAX_NAME_BYTES} bytes of UTF-8 are allowed`);
  }
}

/**
 * Refuses what isn't the id of a mailbox, of any kind. There are no dead letters of dead letters
 * or of a broadcast.
 *
 * @throws HubError `invalid`, naming `field`.
 */
export function checkMailbox(text: string, field: string): void {
  const mailbox = parseMailbox(text);
  switch (mailbox.kind) {
    case 'broadcast':
      return;
    case 'agent':
      return checkAgentId(mailbox.agent, field);
    case 'capability':
      return checkName(mailbox.taskType, field);
    case 'reply':
      checkAgentId(mailbox.agent, field);
      if (mailbox.session !== undefined) checkName(mailbox.session, field);
      return;
    case 'dead':
      if (mailbox.of === BROADCAST || mailbox.of.startsWith(DEAD)) {
        throw invalid(field, `only agents, capabilities and replies have dead letters`);
      }
      return checkMailbox(mailbox.of, field);
  }
}

const BAD_CHARACTER = -1;

/** The length of `text` in bytes of UTF-8, or {@link BAD_CHARACTER}. */
function nameBytes(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x80) {
      if (code < 0x20 || code === 0x7f) return BAD_CHARACTER;
      bytes += 1;
    } else if (code < 0x800) {
      if (code < 0xa0) return BAD_CHARACTER;
      bytes += 2;
    } else if ((code & 0xf800) !== 0xd800) {
      bytes += 3;
    } else {
      at++;
      if (code >= 0xdc00 || (text.charCodeAt(at) & 0xfc00) !== 0xdc00) return BAD_CHARACTER;
      bytes += 4;
    }
  }
  return bytes;
}

function homeStart(mailbox: string): number {
  let start = 0;
  while (mailbox.startsWith(DEAD, start)) start += DEAD.length;
  return mailbox.startsWith(REPLY, start) ? start + REPLY.length : start;
}

function homeEnd(mailbox: string, start: number): number {
  if (start < REPLY.length || !mailbox.startsWith(REPLY, start - REPLY.length)) return mailbox.length;
  const mark = mailbox.indexOf(SESSION_MARK, start);
  return mark < 0 ? mailbox.length : mark;
}

function startsWith(bytes: Uint8Array, start: number, end: number, prefix: Uint8Array): boolean {
  if (start + prefix.length > end) return false;
  for (let at = 0; at < prefix.length; at++) {
    if (bytes[start + at] !== prefix[at]) return false;
  }
  return true;
}

function invalid(field: string, message: string): HubError {
  return new HubError('invalid', `${field}: ${message}`, { field });
}
