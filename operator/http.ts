import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { HubError } from '../src/std/errors.ts';

/** What the operator shows by HTTP. */
export interface OperatorPages {
  /** Whether it has seen everything once. */
  readonly ready: () => boolean;
  readonly metrics: { readonly contentType: string; metrics(): Promise<string> };
}

/**
 * `/healthz`, `/readyz` and `/metrics` of the operator; answers with the server and its port.
 *
 * @throws HubError `conflict` if the port can't be had.
 */
export function serveHttp(
  { ready, metrics }: OperatorPages,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(body);
    };
    switch (request.url?.split('?', 1)[0]) {
      case '/healthz':
        return answer(200, 'ok\n');
      case '/readyz':
        return ready() ? answer(200, 'ok\n') : answer(503, 'not everything has been seen yet\n');
      case '/metrics':
        metrics.metrics().then(
          (text) => answer(200, text, metrics.contentType),
          () => answer(500, 'the figures can not be read\n'),
        );
        return;
      default:
        return answer(404, 'there are /healthz, /readyz and /metrics\n');
    }
  });
  server.requestTimeout = 10_000;
  return new Promise((resolve, reject) => {
    server.on('error', (cause) => {
      const message = `can't listen on ${host}:${port} (${cause.message}); choose another AGENTHUB_OPERATOR_HTTP_PORT`;
      reject(new HubError('conflict', message, { cause }));
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve({ server, port: typeof address === 'object' ? (address?.port ?? port) : port });
    });
  });
}
