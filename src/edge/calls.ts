import type { PeerCertificate } from 'node:tls';
import type { sendUnaryData, ServerUnaryCall, Metadata } from '@grpc/grpc-js';
import type { Done } from '../broker/question.ts';
import {
  DEFAULT_NAMESPACE,
  DEFAULT_NAMESPACE_WORD,
  isNamespace,
  NAMESPACE_ADVICE,
} from '../core/namespace.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Namespaces } from '../trust/namespaces.ts';
import type { Policy } from '../trust/policy.ts';
import type { Principal } from '../trust/principal.ts';
import type { Act } from '../trust/rights.ts';
import { Rights } from '../trust/rights.ts';
import { Names } from '../wire/names.ts';
import { received } from '../wire/service.ts';
import { statusOf } from '../wire/status.ts';
import type { Audit } from './audit.ts';
import type { Credentials, Lock } from './auth.ts';
import { addressOfPeer } from './auth.ts';

/** Principals whose rights are kept at hand. */
const REMEMBERED = 10_000;

/** In the metadata of a call: the namespace that it is about, if the caller's own is not meant. */
const NAMESPACE_KEY = 'agenthub-namespace';

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
  /** How things are called in the namespace that it is about. */
  readonly names: Names;
  /** Whether sessions must be kept apart from those of others, which may be strangers. */
  readonly apart: boolean;
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
  /** Which namespaces there are; default: none but the default one. */
  readonly namespaces?: (() => Namespaces) | undefined;
  /** Whether what callers show may say that they are in a namespace. */
  readonly showNamespaces?: (() => boolean) | undefined;
}

/** Who may come in, what they may do, and who is connected at the gRPC port. */
export class Door {
  readonly audit: Audit;
  private readonly options: DoorOptions;
  private readonly peers = new Map<string, number>();
  private readonly known = new Map<string, Rights>();
  private readonly names = new Map<string, Names>();
  private judgedBy: Policy | undefined;

  constructor(options: DoorOptions) {
    this.options = options;
    this.audit = options.audit;
  }

  /** Connections with an open stream. */
  get connections(): number {
    return this.peers.size;
  }

  /** Whether there are namespaces beside the default one. */
  get divided(): boolean {
    const { namespaces, showNamespaces } = this.options;
    return showNamespaces?.() === true || namespaces?.().empty === false;
  }

  /** Lets the caller of a gRPC method in. The error is `unauthenticated`. */
  admit(caller: Caller, done: Done<Admission>): void {
    const [asked] = caller.metadata.get(NAMESPACE_KEY);
    const namespace = typeof asked === 'string' && asked !== '' ? asked : undefined;
    this.enterWith(credentialsOf(caller), caller.getPeer(), caller.getPath(), done, namespace);
  }

  /**
   * Lets a caller in that shows this, to do `action`.
   *
   * @param asked the namespace that it is about, as people call it; default: the caller's own.
   */
  enterWith(
    credentials: Credentials,
    peer: string,
    action: string,
    done: Done<Admission>,
    asked?: string,
  ): void {
    const { lock, audit } = this.options;
    lock.authenticate(credentials, (error, principal) => {
      if (error) {
        audit.refused({ who: '', peer }, action, error);
        return done(error, undefined);
      }
      const home = this.namespaceOf(principal);
      const namespace = asked === undefined ? home : asked === DEFAULT_NAMESPACE_WORD ? '' : asked;
      const refusal = this.namespaceRefusal(principal, namespace);
      if (refusal) {
        audit.refused({ who: principal.name, peer }, action, refusal);
        return done(refusal, undefined);
      }
      done(undefined, new Visitor(this, principal, namespace, peer, action));
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

  /** Whether that principal would still be let in, to that namespace. */
  stands(principal: Principal, namespace: string): boolean {
    return this.options.lock.stands(principal) && !this.namespaceRefusal(principal, namespace);
  }

  /** How things are called in that namespace. */
  namesIn(namespace: string): Names {
    let names = this.names.get(namespace);
    if (names) return names;
    if (this.names.size >= REMEMBERED) this.names.clear();
    this.names.set(namespace, (names = Names.of(namespace)));
    return names;
  }

  /** Its own: what it has shown says it, or the file of namespaces. */
  private namespaceOf(principal: Principal): string {
    return principal.namespace !== ''
      ? principal.namespace
      : (this.options.namespaces?.().of(principal) ?? DEFAULT_NAMESPACE);
  }

  /** Why it may not be in that namespace, if it may not. */
  private namespaceRefusal(principal: Principal, namespace: string): HubError | undefined {
    const home = this.namespaceOf(principal);
    if (namespace === home) return undefined;
    const field = NAMESPACE_KEY;
    if (home !== DEFAULT_NAMESPACE) {
      return new HubError('permission', `${principal.name} may not leave its namespace, ${home}`, { field });
    }
    if (!isNamespace(namespace)) return new HubError('invalid', NAMESPACE_ADVICE, { field });
    return this.rightsOf(principal, home).refusal({ does: 'admin', to: 'namespaces' }, field);
  }

  /** What that principal may do there by the policy that is in force now. */
  rightsOf(principal: Principal, namespace: string): Rights {
    const policy = this.options.policy();
    if (policy !== this.judgedBy || this.known.size >= REMEMBERED) this.known.clear();
    this.judgedBy = policy;
    const key = [namespace, principal.role, principal.name, ...principal.groups].join('\n');
    let rights = this.known.get(key);
    if (rights === undefined) this.known.set(key, (rights = Rights.of(principal, policy, namespace)));
    return rights;
  }
}

/** Somebody who was let in to do something. */
class Visitor implements Admission {
  readonly principal: Principal;
  readonly rights: Rights;
  readonly peer: string;
  readonly names: Names;
  private readonly door: Door;
  private readonly action: string;

  constructor(door: Door, principal: Principal, namespace: string, peer: string, action: string) {
    this.door = door;
    this.principal = principal;
    this.names = door.namesIn(namespace);
    this.rights = door.rightsOf(principal, namespace);
    this.peer = peer;
    this.action = action;
  }

  get apart(): boolean {
    return this.rights.limited || !this.names.isDefault || this.door.divided;
  }

  judged(): Rights {
    return this.door.rightsOf(this.principal, this.names.namespace);
  }

  stands(): boolean {
    return this.door.stands(this.principal, this.names.namespace);
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

/**
 * A unary handler for who is let in: whatever `answer` throws or rejects with becomes the call's status. To `answer`
 * all names are those inside of the cluster.
 */
export function unary<Request, Response>(
  door: Pick<Door, 'admit'>,
  answer: (request: Request, admission: Admission, caller: Caller) => Response | Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => void {
  return (call, callback) => {
    door.admit(call, (refused, admission) => {
      if (refused) return callback(statusOf(refused));
      const { names } = admission;
      const respond = async (): Promise<Response> =>
        names.leaving(await answer(names.entering(received(call.request)), admission, call));
      respond().then(
        (response) => callback(null, response),
        (error: unknown) => callback(statusOf(names.isDefault ? error : names.error(toHubError(error)))),
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
