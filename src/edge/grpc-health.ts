import { HealthImplementation } from 'grpc-health-check';
import type { Broker, Phase } from '../broker/broker.ts';
import type { Service } from './server.ts';

/**
 * `grpc.health.v1.Health` (https://grpc.io/docs/guides/health-checking/): the server as a whole (the
 * empty name) and each of these services are SERVING while the broker accepts tasks.
 */
export function grpcHealth(broker: Broker, services: readonly string[]): Service[] {
  const names = ['', ...services];
  const health = new HealthImplementation();
  const tell = (phase: Phase): void => {
    for (const name of names) health.setStatus(name, phase === 'ready' ? 'SERVING' : 'NOT_SERVING');
  };
  tell(broker.phase);
  broker.watch(tell);
  const added: Service[] = [];
  health.addToServer({
    addService: (definition, implementation) => added.push({ definition, implementation }),
  });
  return added;
}
