import type { CryptoKey, JWK } from 'jose';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

/** Whom brokers of tests trust. */
export const ISSUER = 'https://id.example.org';

/** The keys of these, as an issuer publishes them. */
export function keySet(...signers: readonly Signer[]): string {
  return JSON.stringify({ keys: signers.map(({ jwk }) => jwk) });
}

/** Somebody who signs tokens. */
export class Signer {
  readonly jwk: JWK;
  private readonly key: CryptoKey;
  private readonly kid: string;

  private constructor(kid: string, key: CryptoKey, jwk: JWK) {
    this.kid = kid;
    this.key = key;
    this.jwk = jwk;
  }

  static async make(kid: string): Promise<Signer> {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    return new Signer(kid, privateKey, { ...(await exportJWK(publicKey)), kid, alg: 'ES256' });
  }

  /** A token for `sub`; `expires` in seconds from now. */
  sign(
    sub: string,
    {
      expires = 60,
      issuer = ISSUER,
      audience = 'agenthub',
      ...claims
    }: Readonly<Record<string, unknown>> = {},
  ): Promise<string> {
    return new SignJWT({ sub, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: this.kid })
      .setIssuer(String(issuer))
      .setAudience(String(audience))
      .setExpirationTime(Math.floor(Date.now() / 1000) + Number(expires))
      .sign(this.key);
  }
}
