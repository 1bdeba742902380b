import type { Cluster } from '../cluster/cluster.ts';
import type { Peers } from '../cluster/peers.ts';
import type { Clock, Timer } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import { readShardQuestion, writeShardQuestion } from '../wire/shard-question.ts';
import type { Done, Question } from './question.ts';

/** How often it looks whether a question can go on, in milliseconds. */
const TICK_MS = 50;
/** How long a question waits for shards that nobody serves, in milliseconds. */
const PATIENCE_MS = 3000;
/** A live broker that has not answered after this long does not answer any more, in milliseconds. */
const SILENCE_MS = 10_000;

const NO_BYTES = new Uint8Array(0);

/** What a {@link Router} is made of. */
export interface RouterOptions {
  readonly cluster: Cluster;
  /** `undefined`: there are no other brokers. */
  readonly peers: Peers | undefined;
  readonly clock: Clock;
  readonly shards: {
    readonly count: number;
    /** Who serves the shard here: another object whenever it is another one. */
    owner(shard: number): object | undefined;
  };
}

/** How this broker answers a question about shards that it serves. `done` is called once. */
export type ShardAnswerer<Request, Response> = (
  request: Request,
  shards: readonly number[],
  done: Done<Response>,
) => void;

/** A question about shards, to whoever serves them: this broker, or others. */
export interface ShardQuestion<Request, Response> {
  /** Asks who serves that shard. `done` is called once, perhaps at once. */
  ofShard(shard: number, request: Request, done: Done<Response>): void;
  /**
   * Asks until every shard has been answered for, each once, or one answer is `enough`. Fails with `unavailable`
   * if somebody is silent, rather than to answer without them.
   */
  ofAll(request: Request, done: Done<readonly Response[]>, enough?: (response: Response) => boolean): void;
}

/** What a broker answered; one that did not answer has the error. */
export interface BrokerAnswer<Response> {
  readonly broker: string;
  readonly response: Response | undefined;
  readonly error: HubError | undefined;
}

/** A question to all brokers. */
export interface BrokersQuestion<Request, Response> {
  /** Asks every live broker, this one included; who is not live any more is left out of the answers. */
  ofEach(
    request: Request,
    timeoutMs: number,
    done: (answers: readonly BrokerAnswer<Response>[]) => void,
  ): void;
  /** Asks one broker; may be this one. */
  of(broker: string, request: Request, timeoutMs: number, done: Done<Response>): void;
}

/** What waits for something, and looks for it from time to time. */
interface Waiting {
  tick(now: number): void;
}

/** Shards that were answered for, and the answer; for none of them, there is none. */
interface Answered<Response> {
  readonly covered: readonly number[];
  readonly response: Response | undefined;
}

/**
 * Brings questions to the brokers that can answer them, so that any broker answers for all shards. Where
 * this broker can answer itself, nothing is serialized.
 */
export class Router {
  readonly options: RouterOptions;
  private readonly waiting = new Set<Waiting>();
  private timer: Timer | undefined;

  constructor(options: RouterOptions) {
    this.options = options;
  }

  /**
   * A question about shards, and how this broker answers it. If it is `repeatable`, it is asked again when
   * it remains open whether it was answered; else that is an error.
   */
  aboutShards<Request, Response>(
    question: Question<Request, Response>,
    repeatable: boolean,
    answerer: ShardAnswerer<Request, Response>,
  ): ShardQuestion<Request, Response> {
    const { peers, shards } = this.options;
    const here = (request: Request, some: readonly number[], done: Done<Answered<Response>>): void =>
      new Answering(this, repeatable).run(request, some, answerer, done);
    peers?.answer(question.name, (bytes, answer) => {
      answering(answer, () => {
        const { shards: some, body } = readShardQuestion(bytes);
        here(question.request.read(body), some, (error, answered) => {
          if (error) return answer(error, NO_BYTES);
          const { covered, response } = answered;
          const written = response === undefined ? NO_BYTES : question.response.write(response);
          answer(undefined, writeShardQuestion(covered, written));
        });
      });
    });
    const ask = (
      some: Iterable<number>,
      request: Request,
      done: Done<readonly Response[]>,
      enough: (response: Response) => boolean = () => false,
    ): void => new Round({ router: this, question, repeatable, here, request, done, enough }).begin(some);
    return {
      ofShard: (shard, request, done) =>
        ask([shard], request, (error, responses) => {
          if (error) return done(error, undefined);
          // One shard, one answer.
          for (const response of responses) done(undefined, response);
        }),
      ofAll: (request, done, enough) =>
        ask(Array.from({ length: shards.count }).keys(), request, done, enough),
    };
  }

  /** A question that every broker answers for itself. */
  toBrokers<Request, Response>(
    question: Question<Request, Response>,
    answerer: (request: Request, done: Done<Response>) => void,
  ): BrokersQuestion<Request, Response> {
    const { peers, cluster } = this.options;
    const here = (request: Request, done: Done<Response>): void => {
      try {
        answerer(request, done);
      } catch (error) {
        done(toHubError(error), undefined);
      }
    };
    peers?.answer(question.name, (bytes, answer) => {
      answering(answer, () => {
        here(question.request.read(bytes), (error, response) => {
          if (error) answer(error, NO_BYTES);
          else answer(undefined, question.response.write(response));
        });
      });
    });
    const of = (broker: string, request: Request, timeoutMs: number, done: Done<Response>): void => {
      if (broker === cluster.self) return here(request, done);
      if (!peers) return done(gone(broker), undefined);
      peers.ask(broker, question.name, question.request.write(request), timeoutMs, (error, bytes) => {
        if (error) return done(error, undefined);
        readAnswer(() => question.response.read(bytes), done);
      });
    };
    return {
      of,
      ofEach: (request, timeoutMs, done) => {
        const poll = new Poll(this, done);
        poll.begin(
          cluster.members().map(({ id }) => id),
          (broker, answered) => of(broker, request, timeoutMs, answered),
        );
      },
    };
  }

  /** Has it look from time to time, until {@link dismiss}. */
  watch(waiting: Waiting): void {
    this.waiting.add(waiting);
    this.timer ??= this.options.clock.after(TICK_MS, () => this.tick());
  }

  dismiss(waiting: Waiting): void {
    this.waiting.delete(waiting);
  }

  /** Nobody waits any more; those that did are not told. */
  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.waiting.clear();
  }

  private tick(): void {
    const { clock } = this.options;
    this.timer = undefined;
    const now = clock.now();
    for (const waiting of [...this.waiting]) waiting.tick(now);
    if (this.waiting.size > 0) this.timer ??= clock.after(TICK_MS, () => this.tick());
  }
}

/** This broker answers for some shards, as long as it serves them. */
class Answering implements Waiting {
  private readonly router: Router;
  private readonly repeatable: boolean;
  private served: (readonly [shard: number, owner: object])[] = [];
  private lost = (): void => {};

  constructor(router: Router, repeatable: boolean) {
    this.router = router;
    this.repeatable = repeatable;
  }

  run<Request, Response>(
    request: Request,
    shards: readonly number[],
    answerer: ShardAnswerer<Request, Response>,
    done: Done<Answered<Response>>,
  ): void {
    const { router, repeatable } = this;
    const { shards: here, peers } = router.options;
    const nothing = { covered: [], response: undefined };
    this.served = shards.flatMap((shard) => {
      const owner = here.owner(shard);
      return owner ? [[shard, owner] as const] : [];
    });
    if (this.served.length === 0) return done(undefined, nothing);
    const covered = this.served.map(([shard]) => shard);
    let open = true;
    const close = (): boolean => {
      const was = open;
      open = false;
      router.dismiss(this);
      return was;
    };
    this.lost = () => {
      if (!close()) return;
      if (repeatable) done(undefined, nothing);
      else done(undecided(`shard ${covered[0]} was taken over meanwhile`), undefined);
    };
    try {
      answerer(request, covered, (error, response) => {
        if (!close()) return;
        if (error) done(error, undefined);
        else if (repeatable && !this.serves()) done(undefined, nothing);
        else done(undefined, { covered, response });
      });
    } catch (error) {
      if (close()) done(toHubError(error), undefined);
    }
    if (open && peers) router.watch(this);
  }

  tick(): void {
    if (!this.serves()) this.lost();
  }

  private serves(): boolean {
    const { shards } = this.router.options;
    return this.served.every(([shard, owner]) => shards.owner(shard) === owner);
  }
}

interface RoundOptions<Request, Response> {
  readonly router: Router;
  readonly question: Question<Request, Response>;
  readonly repeatable: boolean;
  readonly here: (request: Request, shards: readonly number[], done: Done<Answered<Response>>) => void;
  readonly request: Request;
  readonly done: Done<readonly Response[]>;
  readonly enough: (response: Response) => boolean;
}

/** One question on its way to all that serve the shards that it is about. */
class Round<Request, Response> implements Waiting {
  private readonly options: RoundOptions<Request, Response>;
  private readonly left = new Set<number>();
  /** Who has been asked for which shards, and has not answered. */
  private readonly asked = new Map<number, { readonly broker: string; open: boolean }>();
  private readonly answers: Response[] = [];
  private body: Uint8Array | undefined;
  private waitingSince: number | undefined;
  private over = false;

  constructor(options: RoundOptions<Request, Response>) {
    this.options = options;
  }

  begin(shards: Iterable<number>): void {
    for (const shard of shards) this.left.add(shard);
    this.route();
    if (!this.over) this.options.router.watch(this);
  }

  tick(now: number): void {
    const { cluster } = this.options.router.options;
    for (const { broker } of new Set(this.asked.values())) {
      if (broker !== cluster.self && !cluster.isLive(broker)) this.silent(broker);
      if (this.over) return;
    }
    this.route();
    if (this.over || this.waitingSince === undefined || now - this.waitingSince < PATIENCE_MS) return;
    const shard = [...this.left].find((one) => !this.asked.has(one)) ?? [...this.left][0];
    this.end(
      new HubError('unavailable', `shard ${shard} is not served by any broker just now; try again`, {
        retryAfterMs: 1000,
      }),
    );
  }

  /** Asks for all shards that nobody has been asked for yet, and somebody serves. */
  private route(): void {
    const groups = new Map<string, number[]>();
    for (const shard of this.left) {
      if (this.asked.has(shard)) continue;
      const broker = this.serverOf(shard);
      if (broker === undefined) this.noteWaiting();
      else if (groups.has(broker)) groups.get(broker)!.push(shard);
      else groups.set(broker, [shard]);
    }
    for (const [broker, shards] of groups) {
      if (!this.over) this.ask(broker, shards);
    }
  }

  private serverOf(shard: number): string | undefined {
    const { cluster, peers, shards } = this.options.router.options;
    if (shards.owner(shard)) return cluster.self;
    const claim = cluster.claim(shard);
    return peers && claim && claim.broker !== cluster.self ? claim.broker : undefined;
  }

  private ask(broker: string, shards: readonly number[]): void {
    const { router, question, here, request } = this.options;
    const { cluster, peers } = router.options;
    const asking = { broker, open: true };
    for (const shard of shards) this.asked.set(shard, asking);
    const done: Done<Answered<Response>> = (error, answered) => {
      if (!asking.open || this.over) return;
      asking.open = false;
      for (const shard of shards) this.asked.delete(shard);
      if (error) this.failed(error);
      else this.take(answered);
    };
    if (broker === cluster.self) return here(request, shards, done);
    this.body ??= question.request.write(request);
    peers!.ask(broker, question.name, writeShardQuestion(shards, this.body), SILENCE_MS, (error, bytes) => {
      if (error) return done(error, undefined);
      readAnswer(() => {
        const { shards: covered, body } = readShardQuestion(bytes);
        return { covered, response: covered.length > 0 ? question.response.read(body) : undefined };
      }, done);
    });
  }

  private take({ covered, response }: Answered<Response>): void {
    for (const shard of covered) this.left.delete(shard);
    if (covered.length > 0) this.answers.push(response!);
    if (this.left.size === 0 || (covered.length > 0 && this.options.enough(response!))) this.end(undefined);
    else if (this.asked.size < this.left.size) this.noteWaiting();
  }

  private failed(error: HubError): void {
    if (error.code === 'unavailable' && this.options.repeatable) this.noteWaiting();
    else this.end(error);
  }

  /** That broker is gone. */
  private silent(broker: string): void {
    for (const [shard, asking] of this.asked) {
      if (asking.broker !== broker) continue;
      asking.open = false;
      this.asked.delete(shard);
    }
    this.failed(undecided(`the broker ${broker}, which was asked, is gone`));
  }

  private noteWaiting(): void {
    this.waitingSince ??= this.options.router.options.clock.now();
  }

  private end(error: HubError | undefined): void {
    if (this.over) return;
    this.over = true;
    this.options.router.dismiss(this);
    if (error) this.options.done(error, undefined);
    else this.options.done(undefined, this.answers);
  }
}

/** One question on its way to all brokers. */
class Poll<Response> implements Waiting {
  private readonly router: Router;
  private readonly done: (answers: readonly BrokerAnswer<Response>[]) => void;
  private readonly answers: BrokerAnswer<Response>[] = [];
  private readonly left = new Set<string>();
  private begun = false;

  constructor(router: Router, done: (answers: readonly BrokerAnswer<Response>[]) => void) {
    this.router = router;
    this.done = done;
  }

  begin(brokers: readonly string[], ask: (broker: string, done: Done<Response>) => void): void {
    for (const broker of brokers) this.left.add(broker);
    for (const broker of brokers) {
      ask(broker, (error, response) => {
        if (!this.left.delete(broker)) return;
        this.answers.push({ broker, response, error });
        this.look();
      });
    }
    this.begun = true;
    if (this.left.size > 0) this.router.watch(this);
    else this.look();
  }

  tick(): void {
    const { cluster } = this.router.options;
    for (const broker of this.left) if (!cluster.isLive(broker)) this.left.delete(broker);
    this.look();
  }

  private look(): void {
    if (!this.begun || this.left.size > 0) return;
    this.begun = false;
    this.router.dismiss(this);
    this.done(this.answers.sort((a, b) => (a.broker < b.broker ? -1 : 1)));
  }
}

function answering(answer: (error: HubError, none: Uint8Array) => void, act: () => void): void {
  try {
    act();
  } catch (error) {
    answer(toHubError(error), NO_BYTES);
  }
}

function readAnswer<T>(read: () => T, done: Done<T>): void {
  let value: T;
  try {
    value = read();
  } catch (error) {
    return done(toHubError(error), undefined);
  }
  done(undefined, value);
}

function gone(broker: string): HubError {
  return new HubError('unavailable', `there is no broker ${broker}`, { retryAfterMs: 1000 });
}

function undecided(what: string): HubError {
  return new HubError('unavailable', `${what}; look whether it was done, and try again`, {
    retryAfterMs: 1000,
  });
}
