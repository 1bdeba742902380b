/**
 * `node dist/cli/pre-stop.js <seconds> <url>`: what Kubernetes runs in a pod before it stops the broker there. It has
 * the broker drain and comes back when that is done, or after that time; the token is in AGENTHUB_CLIENT_TOKEN.
 *
 * Not `agenthub cluster drain`, because all pods of a cluster may stop at once: it imports nothing, so that it starts at
 * once on a busy machine, and asks by HTTP on loopback, whatever names the certificate has.
 */
import http from 'node:http';
import https from 'node:https';

const [seconds = '60', base = 'http://127.0.0.1:8080'] = process.argv.slice(2);
const TOKEN = process.env['AGENTHUB_CLIENT_TOKEN'] ?? '';
const ASK_MS = 100;
const TIMEOUT_MS = 5000;
const until = performance.now() + Number(seconds) * 1000;

interface Answer {
  readonly status: number;
  readonly text: string;
}

function ask(method: string): Promise<Answer> {
  const url = new URL('/drain', base);
  const options = {
    method,
    agent: false,
    timeout: TIMEOUT_MS,
    headers: { authorization: `Bearer ${TOKEN}` },
    // It is this very pod; its certificate need not name loopback.
    rejectUnauthorized: false,
  };
  return new Promise((resolve, reject) => {
    const receive = (response: http.IncomingMessage): void => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    };
    const request =
      url.protocol === 'https:' ? https.request(url, options, receive) : http.request(url, options, receive);
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    request.end();
  });
}

async function drained(method: string): Promise<boolean> {
  const { status, text } = await ask(method);
  if (status >= 300) throw new Error(`HTTP ${status}: ${text}`);
  return (JSON.parse(text) as { readonly state?: string }).state === 'drained';
}

try {
  let method = 'POST';
  while (!(await drained(method)) && performance.now() < until) {
    method = 'GET';
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
} catch (error) {
  // Kubernetes shows this as an event, and goes on: the broker drains once more when it is told to stop.
  process.stderr.write(`the broker could not be drained: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
