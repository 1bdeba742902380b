import type { Broker } from '../broker/broker.ts';
import type { PlacementRules } from '../core/placement.ts';
import { HubError } from '../std/errors.ts';
import type { PlacementDocument } from '../wire/placement-document.ts';
import { promised } from './calls.ts';

/** Which pools there are, with how many brokers each, and which mailboxes live in which. */
export function placementOf({ cluster, atlas }: Broker): PlacementDocument {
  const { pools, rules } = cluster.layout() ?? atlas.layout;
  const members = cluster.members();
  return {
    ...rules,
    pools: pools.map(({ name, first, shards }) => ({
      name,
      firstShard: first,
      shards,
      brokers: members.filter(({ pool }) => pool === name).length,
    })),
  };
}

/**
 * Makes these the rules, in place of those of their version, and answers what holds then.
 *
 * @throws HubError `invalid` if they name a pool that there is not, `aborted` if there are later rules by now.
 */
export async function changePlacement(broker: Broker, rules: PlacementRules): Promise<PlacementDocument> {
  const known = placementOf(broker).pools.map(({ name }) => name);
  const check = (pool: string, field: string): void => {
    if (known.includes(pool)) return;
    const message = `${field}: there is no pool ${pool}; there are ${known.join(', ')}`;
    throw new HubError('invalid', `${message}. The first broker of a pool makes it`, { field });
  };
  check(rules.defaultPool, 'placement.defaultPool');
  rules.rules.forEach(({ pool }, index) => check(pool, `placement.rules[${index}].pool`));
  await promised<undefined>((done) =>
    broker.cluster.place(rules, (error) => (error ? done(error, undefined) : done(undefined, undefined))),
  );
  return placementOf(broker);
}
