import { broker } from './broker.ts';
import { cluster } from './cluster.ts';
import type { Dashboard } from './dashboard.ts';
import { nats } from './nats.ts';
import { operator } from './operator.ts';
import { tasks } from './tasks.ts';

/** Every dashboard, in the order in which people look. */
export const DASHBOARDS: readonly Dashboard[] = [cluster, broker, tasks, operator, nats];
