import { NONE } from './task-table.ts';

/** A session's subscription to a mailbox, as the owner of the mailbox sees it. */
export interface Attachment {
  /** Number within its shard; the column that notes who holds a task refers to it. */
  readonly id: number;
  readonly mailbox: number;
  readonly listener: boolean;
  /** The session's key. */
  readonly session: string;
  /** Whether it takes only tasks of {@link types}. */
  readonly filtered: boolean;
  readonly types: ReadonlySet<string>;
  /** Tasks it may hold at a time. */
  window: number;
  inFlight: number;
}

/** How the next worker of a mailbox is chosen among those with free credit. */
export type Balance = 'round-robin' | 'capacity';

interface Receivers<A> {
  readonly workers: A[];
  readonly listeners: A[];
  /** Workers with free credit, next one first; those that have none any more are dropped in passing. */
  rotation: A[];
  /** Whether any of them takes only some types. */
  filtered: boolean;
}

const NOBODY: readonly never[] = [];

/** Candidates that `capacity` compares: enough to find a good one, few enough for 100,000 workers. */
const COMPARED = 64;

/** Who is attached to which mailbox of a shard, and who gets the next task. */
export class Subscriptions<A extends Attachment> {
  private readonly byMailbox: (Receivers<A> | undefined)[] = [];
  private readonly attached = new Set<number>();
  private readonly byId: (A | undefined)[] = [];
  private readonly free: number[] = [];
  private readonly rotating = new Set<A>();
  private readonly balance: Balance;

  constructor(balance: Balance) {
    this.balance = balance;
  }

  /** A number for a new attachment. */
  nextId(): number {
    return this.free.pop() ?? this.byId.length;
  }

  add(attachment: A): void {
    this.byId[attachment.id] = attachment;
    const { mailbox, listener, filtered } = attachment;
    const receivers = this.byMailbox[mailbox];
    if (receivers) {
      (listener ? receivers.listeners : receivers.workers).push(attachment);
      receivers.filtered ||= filtered;
    } else {
      // A list that is pushed to has room for 17; most mailboxes have one receiver.
      const [workers, listeners] = listener ? [[], [attachment]] : [[attachment], []];
      this.byMailbox[mailbox] = { workers, listeners, rotation: [], filtered };
      this.attached.add(mailbox);
    }
    this.credited(attachment);
  }

  remove(attachment: A): void {
    if (this.byId[attachment.id] !== attachment) return;
    this.byId[attachment.id] = undefined;
    this.free.push(attachment.id);
    this.rotating.delete(attachment);
    const receivers = this.byMailbox[attachment.mailbox]!;
    const list = attachment.listener ? receivers.listeners : receivers.workers;
    list.splice(list.indexOf(attachment), 1);
    receivers.rotation = receivers.rotation.filter((one) => one !== attachment);
    if (receivers.workers.length + receivers.listeners.length === 0) {
      this.byMailbox[attachment.mailbox] = undefined;
      this.attached.delete(attachment.mailbox);
      return;
    }
    receivers.filtered = [...receivers.workers, ...receivers.listeners].some((one) => one.filtered);
  }

  /** The attachment may have free credit again. */
  credited(attachment: A): void {
    if (attachment.listener || attachment.inFlight >= attachment.window) return;
    if (this.byId[attachment.id] !== attachment || this.rotating.has(attachment)) return;
    this.rotating.add(attachment);
    const receivers = this.byMailbox[attachment.mailbox]!;
    if (receivers.rotation.length === 0) receivers.rotation = [attachment];
    else receivers.rotation.push(attachment);
  }

  get(id: number): A | undefined {
    return id === NONE ? undefined : this.byId[id];
  }

  workers(mailbox: number): readonly A[] {
    return this.byMailbox[mailbox]?.workers ?? NOBODY;
  }

  listeners(mailbox: number): readonly A[] {
    return this.byMailbox[mailbox]?.listeners ?? NOBODY;
  }

  /** Whether some receiver of the mailbox does not take every type. */
  filtered(mailbox: number): boolean {
    return this.byMailbox[mailbox]?.filtered ?? false;
  }

  /** Whether anybody is attached to the mailbox. */
  attachedTo(mailbox: number): boolean {
    return this.byMailbox[mailbox] !== undefined;
  }

  /** Mailboxes that somebody is attached to. */
  mailboxes(): IterableIterator<number> {
    return this.attached.values();
  }

  /** Whether some worker of the mailbox has free credit. */
  idle(mailbox: number): boolean {
    const receivers = this.byMailbox[mailbox];
    return receivers !== undefined && this.front(receivers) !== undefined;
  }

  /**
   * The worker that gets the next task of that type, among those with free credit that take it and
   * are `ready`: each in its turn, or the one with the largest share of its window free.
   */
  choose(mailbox: number, type: string, ready: (worker: A) => boolean): A | undefined {
    const receivers = this.byMailbox[mailbox];
    if (!receivers || !this.front(receivers)) return undefined;
    const { rotation } = receivers;
    const only = rotation[0]!;
    if (rotation.length === 1) return takes(only, type) && ready(only) ? only : undefined;
    let best = -1;
    let most = 0;
    let compared = 0;
    for (let at = 0; at < rotation.length; at++) {
      const worker = rotation[at]!;
      const room = worker.window - worker.inFlight;
      if (room <= 0 || !takes(worker, type) || !ready(worker)) continue;
      if (this.balance === 'round-robin') {
        best = at;
        break;
      }
      const share = room / worker.window;
      if (share > most) {
        most = share;
        best = at;
      }
      if (++compared === COMPARED) break;
    }
    if (best < 0) return undefined;
    const [worker] = rotation.splice(best, 1);
    rotation.push(worker!);
    return worker;
  }

  /** Drops workers without credit from the front of the rotation and answers the first that has some. */
  private front(receivers: Receivers<A>): A | undefined {
    const { rotation } = receivers;
    for (;;) {
      const worker = rotation[0];
      if (!worker || worker.inFlight < worker.window) return worker;
      rotation.shift();
      this.rotating.delete(worker);
    }
  }
}

/** Whether the attachment wants tasks of that type. */
export function takes(attachment: Attachment, type: string): boolean {
  return !attachment.filtered || attachment.types.has(type);
}
