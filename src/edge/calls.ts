import type { PeerCertificate } from 'node:tls';
import type { sendUnaryData, ServerUnaryCall, Metadata } from '@grpc/grpc-js';
import type { Done } from '../broker/question.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import type { Policy } from '../trust/policy.ts';
import type { Principal } from '../trust/principal.ts';
import type { Act } from '../trust/rights.ts';
import { Rights } from '../trust/rights.ts';
import { received } from '../wire/service.ts';
import { statusOf } from '../wire/status.ts';
import type { Audit } from './audit.ts';
import type { Credentials, Lock } from './auth.ts';
import { addressOfPeer } from './auth.ts';

/** Principals whose rights are kept at hand. */
const REMEMBERED = 10_000;

/** What a call says of its caller. */
export interface Caller {
  readonly metadata: Metadata;
  getPeer(): string;
  getPath(): string;
  getAuthContext(): { readonly sslPeerCertificate?: PeerCertificate };
}

/** Somebody who was let in. */
export interface Admission {
  readonly principal: Principal;
  readonly peer: string;
  /** What it may do, by the policy that is in force now. */
  readonly rights: Rights;
  /** The same by the policy that is in force later. */
  judged(): Rights;
  /** Whether what it has shown is still good, apart from its time. */
  stands(): boolean;
  /** Throws HubError `permission`, and writes it down, if it may not do that. */
  require(act: Act, field: string): void;
  /** Writes the refusal down, and throws it. */
  refuse(refusal: HubError): never;
  /** What looks at each task that it publishes; `undefined`: it may publish everything. */
  guard(rights: Rights): Guard | undefined;
}

/** Why a task may not be published, if it may not. */
type Guard = (mailbox: string, type: string, requester: string) => HubError | undefined;

/** What a {@link Door} is made of. */
export interface DoorOptions {
  readonly lock: Lock;
  readonly audit: Audit;
  /** The policy that is in force now; `undefined`: there is none. */
  readonly policy: () => Policy | undefined;
}

/** Who may come in, what they may do, and who is connected at the gRPC port. */
export class Door {
  readonly audit: Audit;
  private readonly options: DoorOptions;
  private readonly peers = new Map<string, number>();
  private readonly known = new Map<string, Rights>();
  private judgedBy: Policy | undefined;

  constructor(options: DoorOptions) {
    this.options = options;
    this.audit = options.audit;
  }

  /** Connections with an open stream. */
  get connections(): number {
    return this.peers.size;
  }

  /** Whether agents have to be kept apart from each other. */
  get limits(): boolean {
    return this.options.policy() !== undefined;
  }

  /** Lets the caller of a gRPC method in. The error is `unauthenticated`. */
  admit(caller: Caller, done: Done<Admission>): void {
    this.enterWith(credentialsOf(caller), caller.getPeer(), caller.getPath(), done);
  }

  /** Lets a caller in that shows this, to do `action`. */
  enterWith(credentials: Credentials, peer: string, action: string, done: Done<Admission>): void {
    const { lock, audit } = this.options;
    lock.authenticate(credentials, (error, principal) => {
      if (error) {
        audit.refused({ who: '', peer }, action, error);
        return done(error, undefined);
      }
      done(undefined, new Visitor(this, principal, this.rightsOf(principal), peer, action));
    });
  }

  /** Counts a stream of that peer until the answer is called. */
  enter(peer: string): () => void {
    this.peers.set(peer, (this.peers.get(peer) ?? 0) + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      const left = this.peers.get(peer)! - 1;
      if (left > 0) this.peers.set(peer, left);
      else this.peers.delete(peer);
    };
  }

  /** Whether that principal would still be let in. */
  stands(principal: Principal): boolean {
    return this.options.lock.stands(principal);
  }

  /** What that principal may do by the policy that is in force now. */
  rightsOf(principal: Principal): Rights {
    const policy = this.options.policy();
    if (policy !== this.judgedBy || this.known.size >= REMEMBERED) this.known.clear();
    this.judgedBy = policy;
    const key = [principal.role, principal.name, ...principal.groups].join('\n');
    let rights = this.known.get(key);
    if (rights === undefined) this.known.set(key, (rights = Rights.of(principal, policy)));
    return rights;
  }
}

/** Somebody who was let in to do something. */
class Visitor implements Admission {
  readonly principal: Principal;
  readonly rights: Rights;
  readonly peer: string;
  private readonly door: Door;
  private readonly action: string;

  constructor(door: Door, principal: Principal, rights: Rights, peer: string, action: string) {
    this.door = door;
    this.principal = principal;
    this.rights = rights;
    this.peer = peer;
    this.action = action;
  }

  judged(): Rights {
    return this.door.rightsOf(this.principal);
  }

  stands(): boolean {
    return this.door.stands(this.principal);
  }

  require(act: Act, field: string): void {
    const refusal = this.judged().refusal(act, field);
    if (refusal) this.refuse(refusal);
  }

  refuse(refusal: HubError): never {
    this.door.audit.refused({ who: this.principal.name, peer: this.peer }, this.action, refusal);
    throw refusal;
  }

  guard(rights: Rights): Guard | undefined {
    if (!rights.limited) return undefined;
    return (to, type, requester) => {
      if (rights.publishes(to, type, requester)) return undefined;
      const refusal = rights.refusal({ does: 'publish', to, type, requester }, 'task.to');
      if (refusal)
        this.door.audit.refused({ who: this.principal.name, peer: this.peer }, this.action, refusal);
      return refusal;
    };
  }
}

function credentialsOf(caller: Caller): Credentials {
  const [authorization] = caller.metadata.get('authorization');
  return {
    authorization: typeof authorization === 'string' ? authorization : undefined,
    address: addressOfPeer(caller.getPeer()),
    // The server takes no connection with a certificate that was not verified.
    certificate: () => caller.getAuthContext().sslPeerCertificate,
  };
}

/** A unary handler for who is let in: whatever `answer` throws or rejects with becomes the call's status. */
export function unary<Request, Response>(
  door: Pick<Door, 'admit'>,
  answer: (request: Request, admission: Admission, caller: Caller) => Response | Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => void {
  return (call, callback) => {
    door.admit(call, (refused, admission) => {
      if (refused) return callback(statusOf(refused));
      const respond = async (): Promise<Response> => answer(received(call.request), admission, call);
      respond().then(
        (response) => callback(null, response),
        (error: unknown) => callback(statusOf(error)),
      );
    });
  };
}

/** What `act` ends with, which may also throw. */
export function promised<T>(act: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    try {
      act((error, value) => (error ? reject(error) : resolve(value)));
    } catch (error) {
      reject(toHubError(error));
    }
  });
}
