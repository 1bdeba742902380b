import { pino, stdSerializers, stdTimeFunctions } from 'pino';
import { ERRORS, toHubError } from '../src/std/errors.ts';
import { systemClock, systemRandom } from '../src/std/system.ts';
import { loadOperatorConfig } from './config.ts';
import { serveHttp } from './http.ts';
import { KubeClient } from './kube/client.ts';
import { OperatorMetrics } from './metrics.ts';
import { Operator } from './operator.ts';
import { HttpPods } from './pods.ts';

async function main(): Promise<void> {
  const config = loadOperatorConfig(process.env);
  const logger = pino({
    level: config.logLevel,
    base: { service: 'agenthub-operator' },
    timestamp: stdTimeFunctions.isoTime,
    serializers: { error: stdSerializers.err },
  });
  const metrics = new OperatorMetrics(() => operator, systemClock);
  const kube = await KubeClient.create({
    source: { env: process.env },
    clock: systemClock,
    logger,
    observed: (...call) => metrics.called(...call),
  });
  const operator: Operator = new Operator({
    kube,
    pods: new HttpPods(),
    clock: systemClock,
    random: systemRandom,
    logger,
    config,
    metrics,
  });
  const { server, port } = await serveHttp(
    { ready: () => operator.ready, metrics: metrics.registry },
    config.http,
  );
  logger.info({ port, namespace: config.namespace ?? 'all', images: config.images }, 'started');

  const stop = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  void operator.start();
  logger.info({ signal: await stop }, 'stopping');
  await operator.stop();
  server.close();
  server.closeAllConnections();
  kube.close();
}

main().catch((error: unknown) => {
  const { code, message } = toHubError(error);
  process.stderr.write(`agenthub-operator: ${message}\n`);
  process.exit(ERRORS[code].exit);
});
