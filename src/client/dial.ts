import { isIP } from 'node:net';
import type { PeerCertificate } from 'node:tls';
import { checkServerIdentity } from 'node:tls';
import type { ChannelCredentials, ChannelOptions } from '@grpc/grpc-js';
import { Client, credentials } from '@grpc/grpc-js';

/** Certificates, in PEM. */
export interface TlsOptions {
  /** The authorities that the broker's certificate may come from. Default: those that Node trusts. */
  readonly ca?: Uint8Array | string;
  /** The client's own certificate and key, if the broker asks for one. */
  readonly cert?: Uint8Array | string;
  readonly key?: Uint8Array | string;
  /** The name that the broker's certificate must have, if it isn't the one that was dialled. */
  readonly serverName?: string;
}

/** A client of the broker at `address`; without `tls` in plain text. It connects when it is first used. */
export function dial(address: string, tls: TlsOptions | undefined, options: ChannelOptions): Client {
  return new Client(address, credentialsOf(address, tls), { ...options, ...nameOption(address, tls) });
}

function credentialsOf(address: string, tls: TlsOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const ip = ipOf(address);
  const verify =
    ip === undefined || tls.serverName !== undefined
      ? {}
      : {
          checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
            checkServerIdentity(ip, certificate),
        };
  return credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert), verify);
}

/**
 * The name to ask the broker for in TLS. That may not be an address
 * (https://www.rfc-editor.org/rfc/rfc6066#section-3), which grpc-js does not know: an address then asks
 * for localhost, and the certificate is checked for the address.
 */
function nameOption(address: string, tls: TlsOptions | undefined): ChannelOptions {
  if (tls === undefined) return {};
  const name = tls.serverName ?? (ipOf(address) === undefined ? undefined : 'localhost');
  return name === undefined ? {} : { 'grpc.ssl_target_name_override': name };
}

/** The IP address in `1.2.3.4:50051` or `[::1]:50051`, if there is one. */
function ipOf(address: string): string | undefined {
  const host = address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? undefined : host;
}

function pem(text: Uint8Array | string | undefined): Buffer | null {
  return text === undefined ? null : Buffer.from(text);
}
