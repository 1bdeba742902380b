import { createHmac } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import { ClientFrameReader } from '../wire/client-frame.ts';
import type { Hello } from '../wire/gen/agenthub/v1/session_pb.ts';
import { ClientFrameSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Admission } from './calls.ts';
import type { FairShare } from './fair-share.ts';
import { LeaseSeal } from './lease-seal.ts';
import type { Principals } from './principals.ts';
import type { SessionOptions, Transport } from './session.ts';
import { Session } from './session.ts';
import type { TaskFinder } from './task-finder.ts';
import { Tenants } from './tenants.ts';

/** While more of a connection than this waits for its turn, in bytes, it is not read. */
const BEHIND_BYTES = 1024 * 1024;

/** What a session is made with, beside its own facts. */
export type SessionSettings = Omit<
  SessionOptions,
  | 'id'
  | 'incarnation'
  | 'client'
  | 'broker'
  | 'clock'
  | 'admission'
  | 'seal'
  | 'tenant'
  | 'principals'
  | 'cancel'
>;

/** What a {@link SessionsDoor} is made of. */
export interface SessionsDoorOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly random: Random;
  readonly finder: Pick<TaskFinder, 'cancel'>;
  readonly settings: SessionSettings;
  readonly maxSessions: number;
  /** Default: nothing is said of namespaces. */
  readonly tenants?: Tenants | undefined;
  /** Default: nobody waits for others. */
  readonly fair?: FairShare | undefined;
  /** Default: principals have no limits of their own. */
  readonly principals?: Principals | undefined;
}

/** One connection of a client, whatever carries its frames. */
export interface Connection {
  /** A frame has come. Throws HubError if the connection must be ended with it. */
  receive(frame: Buffer): void;
  /** Whether much of what has come waits for its turn: nothing should be read now. */
  readonly behind: boolean;
  /** The connection takes frames again. */
  drained(): void;
  /** The connection has ended. It may be said more than once. */
  gone(): void;
}

/** Where connections become sessions: the first frame says hello, the others go to its session. */
export class SessionsDoor {
  private readonly options: SessionsDoorOptions;
  private readonly tenants: Tenants;

  constructor(options: SessionsDoorOptions) {
    this.options = options;
    this.tenants = options.tenants ?? new Tenants(options);
  }

  /** Takes a new connection of somebody who was let in; what its session has to say is written to `transport`. */
  enter(transport: Transport, admission: Admission): Connection {
    const { clock } = this.options;
    const reader = new ClientFrameReader();
    const { fair } = this.options;
    let session: Session | undefined;
    let waiting = 0;
    const read = (frame: Buffer): void => {
      try {
        const first = session === undefined;
        session ??= this.open(frame, transport, admission);
        if (!session.isOn(transport)) return;
        session.heard(clock.now());
        reader.read(frame, session);
        if (first) session.opened();
      } catch (error) {
        session?.disconnected(transport);
        throw error;
      }
    };
    const later = (on: Session, bytes: number, act: () => void): void => {
      waiting += bytes;
      fair!.run(on.tenant, bytes, () => {
        waiting -= bytes;
        try {
          act();
        } catch (error) {
          transport.end(toHubError(error));
        }
      });
    };
    return {
      receive: (frame) => {
        if (session === undefined || fair === undefined || fair.isFree) return read(frame);
        session.heard(clock.now());
        later(session, frame.length, () => read(frame));
      },
      get behind() {
        return waiting > BEHIND_BYTES;
      },
      drained: () => {
        if (session?.isOn(transport)) session.drained();
      },
      gone: () => {
        // What it has said before counts.
        if (session && waiting > 0) later(session, 0, () => session?.disconnected(transport));
        else session?.disconnected(transport);
      },
    };
  }

  /** The session of a connection whose first frame has come. */
  private open(frame: Buffer, transport: Transport, admission: Admission): Session {
    const { broker, random } = this.options;
    if (broker.phase !== 'ready') {
      throw new HubError('unavailable', `this broker is ${broker.phase}; connect to another one, or later`, {
        retryAfterMs: 500,
      });
    }
    const hello = helloOf(frame);
    const { sessionId, incarnation } = hello;
    const known = broker.sessions.get(sessionId);
    if (known && incarnation <= known.incarnation) {
      throw new HubError(
        'aborted',
        `the session was resumed by incarnation ${known.incarnation}; open a new one`,
        { field: 'hello.incarnation' },
      );
    }
    const { apart, names } = admission;
    const elsewhere = known instanceof Session && known.namespace !== names.namespace;
    if (elsewhere || (apart && sessionId !== '' && !this.belongs(sessionId, admission))) {
      admission.refuse(
        new HubError('permission', `the session is not one of ${admission.principal.name}; open a new one`, {
          field: 'hello.session_id',
        }),
      );
    }
    if (known instanceof Session) {
      known.connect(transport, hello, true, admission);
      return known;
    }
    // It comes from another broker, or from before a restart. Streams of other protocols can't be resumed.
    const resumable =
      sessionId !== '' && !broker.sessions.isHere(sessionId) && broker.sessions.isAlive(sessionId);
    const fresh = apart ? random.token(6) + this.markOf(admission) : random.token(8);
    const session = this.create(resumable ? sessionId : fresh, hello, admission);
    session.connect(transport, hello, resumable, admission);
    return session;
  }

  /** Whether it may be a session of that principal, wherever it was opened: its id ends with a mark that tells. */
  private belongs(id: string, admission: Admission): boolean {
    const here = this.options.broker.sessions.get(id);
    if (here instanceof Session) return here.principal === admission.principal.name;
    return id.endsWith(this.markOf(admission));
  }

  private markOf({ principal, names }: Admission): string {
    const { generation } = this.options.broker.log;
    const owner = names.isDefault ? principal.name : `${names.namespace}\n${principal.name}`;
    return createHmac('sha256', `${generation} sessions`).update(owner).digest('hex').slice(0, 4);
  }

  private create(id: string, hello: Hello, admission: Admission): Session {
    const { broker, clock, settings, maxSessions, principals, finder } = this.options;
    if (broker.sessions.size >= maxSessions) {
      broker.metrics.limits.of('limits.sessions').add();
      throw limit(
        'limits.sessions',
        `this broker has ${maxSessions} sessions already; connect to another one`,
        5000,
      );
    }
    principals?.enter(admission.principal);
    const tenant = this.tenants.of(admission.names);
    tenant.enter();
    return new Session({
      ...settings,
      tenant,
      principals,
      id,
      incarnation: hello.incarnation,
      client: hello.client.slice(0, 256),
      admission,
      seal: admission.apart ? new LeaseSeal(broker.log.generation, id) : undefined,
      cancel: (call, by, done) => finder.cancel(call, by, done),
      broker,
      clock,
    });
  }
}

function helloOf(frame: Buffer): Hello {
  let hello: Hello | undefined;
  try {
    ({ hello } = fromBinary(ClientFrameSchema, frame));
  } catch (error) {
    throw new HubError('invalid', 'malformed message: the first frame can not be decoded', { cause: error });
  }
  if (!hello) throw new HubError('invalid', 'the first frame must say hello', { field: 'hello' });
  if (hello.sessionId !== '' && !/^[0-9a-f]{16}$/.test(hello.sessionId)) {
    throw new HubError('invalid', 'hello.session_id must be the id that a welcome gave, or empty', {
      field: 'hello.session_id',
    });
  }
  return hello;
}
