import type { sendUnaryData, ServerUnaryCall, Metadata } from '@grpc/grpc-js';
import type { Done } from '../broker/question.ts';
import { toHubError } from '../std/errors.ts';
import { received } from '../wire/service.ts';
import { statusOf } from '../wire/status.ts';
import type { Lock, Principal } from './auth.ts';
import { addressOfPeer } from './auth.ts';

/** What a call says of its caller. */
export interface Caller {
  readonly metadata: Metadata;
  getPeer(): string;
}

/** Who may come in through the gRPC port, and who is connected there. */
export class Door {
  private readonly lock: Lock;
  private readonly peers = new Map<string, number>();

  constructor(lock: Lock) {
    this.lock = lock;
  }

  /** Connections with an open stream. */
  get connections(): number {
    return this.peers.size;
  }

  /** Throws HubError `unauthenticated` if the caller may not come in. */
  admit(caller: Caller): Principal {
    return this.lock.authenticate(credentials(caller));
  }

  /** Throws HubError `unauthenticated` or `permission` if the caller is no administrator. */
  admitAdmin(caller: Caller): Principal {
    return this.lock.authenticateAdmin(credentials(caller));
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
}

function credentials(caller: Caller): { authorization: string | undefined; address: string | undefined } {
  const [authorization] = caller.metadata.get('authorization');
  return {
    authorization: typeof authorization === 'string' ? authorization : undefined,
    address: addressOfPeer(caller.getPeer()),
  };
}

/** A unary handler: whatever `answer` throws or rejects with becomes the call's status. */
export function unary<Request, Response>(
  admit: (caller: Caller) => unknown,
  answer: (request: Request, caller: Caller) => Response | Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => void {
  return (call, callback) => {
    const respond = async (): Promise<Response> => {
      admit(call);
      return answer(received(call.request), call);
    };
    respond().then(
      (response) => callback(null, response),
      (error: unknown) => callback(statusOf(error)),
    );
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
