/**
 * A key and its own certificate for localhost and 127.0.0.1, for tests only: everybody can read them here.
 *
 * openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
 *   -addext subjectAltName=DNS:localhost,IP:127.0.0.1
 */
export const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaOPDMXEZaOPeDSR4
nI8bZX5qRIlXGhjd0O3JzbltfUahRANCAASnWOalpY0tQtljUcaaKOinRVxXAEH2
htvI/1cBNh3Taq1pwO3kl7fnHVuhv35QgqVMpZk5xxZrqH+qO60qYYNB
-----END PRIVATE KEY-----
`;

export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUWT3xAkgv1sOsQYtvCw5L4HT/nzEwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE1NTMyNloYDzIxMjYxMDMw
MTU1MzI2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASnWOalpY0tQtljUcaaKOinRVxXAEH2htvI/1cBNh3Taq1pwO3kl7fn
HVuhv35QgqVMpZk5xxZrqH+qO60qYYNBo28wbTAdBgNVHQ4EFgQUO9MJSVXnWzI5
+cKYvrCgqNTLb08wHwYDVR0jBBgwFoAUO9MJSVXnWzI5+cKYvrCgqNTLb08wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgNUXD++OtfmNMOP0uTMLIj5DqBJQ3Np5BShpct3SfBRMCIQDj
9Siujqg1vqW5moXywKk+N2aU0u9abYuVbjN0q+dsLw==
-----END CERTIFICATE-----
`;
