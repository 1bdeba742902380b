import { crc32 } from 'node:zlib';
import type { ShardState } from '../../../src/core/shard-state.ts';
import { NONE, State } from '../../../src/core/task-table.ts';

/**
 * Everything that a shard's log says, as lines of text in an order of their own: two states that came
 * from the same log have the same lines, whatever numbers their parts have been given.
 */
export function snapshot(state: ShardState): string[] {
  const { tasks, mailboxes, types, sessions, batches, deaths, dedup, outbox, awaiting } = state;
  const lines: string[] = [];
  const held = new Map<string, string>();
  for (const slot of tasks.slots()) {
    const leased = tasks.state[slot] === State.leased;
    const death = deaths.get(slot);
    const mailbox = mailboxes.name(tasks.mailbox[slot]!);
    const offset = tasks.offset[slot]!;
    const length = tasks.length[slot]!;
    const entry = batches.bytes(tasks.batch[slot]!).subarray(offset + 8, offset + length);
    lines.push(
      [
        'task',
        tasks.order[slot]!.toString().padStart(16, '0'),
        tasks.tag[slot],
        tasks.state[slot],
        tasks.kind[slot],
        tasks.priority[slot],
        tasks.flags[slot],
        tasks.attempts[slot],
        tasks.deliveries[slot],
        mailbox,
        types.text(tasks.type[slot]!),
        leased ? sessions.text(tasks.session[slot]!) : '-',
        tasks.accepted[slot],
        tasks.notBefore[slot],
        tasks.deadline[slot],
        batches.sequence(tasks.batch[slot]!),
        length,
        crc32(entry),
        dedup.slot(tasks.entry[slot]!) === slot,
        death ? `${death.reason} ${death.at} ${death.error}` : '',
      ].join(' '),
    );
    held.set(mailbox, '');
  }
  for (const name of held.keys()) {
    const id = mailboxes.find(name);
    lines.push(`mailbox ${name} ${mailboxes.queued[id]} ${mailboxes.leased[id]} ${mailboxes.bytes[id]}`);
  }
  for (let shard = 0; shard < outbox.shards; shard++) {
    for (const { number, mailbox, type, entry, sequence } of outbox.pending(shard)) {
      lines.push(`parcel ${shard} ${number} ${mailbox} ${type} ${crc32(entry)} ${sequence}`);
    }
    lines.push(`issued ${shard} ${outbox.issued(shard)}`);
  }
  const { forwarded, received } = outbox.marks();
  lines.push(`forwarded ${forwarded.join(' ')}`, `received ${received.join(' ')}`);
  const ring = dedup.exportRing();
  lines.push(`ids ${dedup.size} ${ring.length} ${crc32(ring)}`);
  for (const [order, tag] of state.undropped) lines.push(`undropped ${order} ${tag}`);
  for (const [id, { mailbox, type, requester }] of awaiting.entries())
    lines.push(`awaited ${id} ${mailbox} ${type} ${requester}`);
  const oldest = batches.oldest();
  lines.push(
    `oldest ${oldest === NONE ? '-' : batches.sequence(oldest)} cut ${state.cut()} bytes ${state.bytes}`,
  );
  lines.push(`epoch ${state.epoch.revision}.${state.epoch.counter}`);
  lines.push(`sequence ${state.sequence} owner ${state.ownerSequence} checkpoint ${state.checkpointCut}`);
  return lines.sort();
}

/** The first lines in which two snapshots differ, or `undefined`. */
export function difference(one: readonly string[], other: readonly string[]): string | undefined {
  if (one.length === other.length && one.every((line, index) => line === other[index])) return undefined;
  const ones = new Set(one);
  const others = new Set(other);
  const left = one.filter((line) => !others.has(line)).slice(0, 5);
  const right = other.filter((line) => !ones.has(line)).slice(0, 5);
  return `${left.map((line) => `- ${line}`).join('\n')}\n${right.map((line) => `+ ${line}`).join('\n')}`;
}
