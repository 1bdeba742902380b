/**
 * What the busiest of `brokers` carries if the shards are spread as the cluster spreads them: numbers of shards
 * differ by one at most, and within that the loads are as even as can be had by placing the largest first.
 */
export function busiest(loads: readonly number[], brokers: number): number {
  if (brokers <= 0) return Infinity;
  const few = Math.floor(loads.length / brokers);
  /** So many may have one shard more. */
  let more = loads.length % brokers;
  const bins = Array.from({ length: brokers }, () => ({ shards: 0, load: 0 }));
  for (const load of [...loads].sort((a, b) => b - a)) {
    let best: (typeof bins)[number] | undefined;
    for (const bin of bins) {
      const room = bin.shards < few || (bin.shards === few && more > 0);
      if (room && (best === undefined || bin.load < best.load)) best = bin;
    }
    if (best === undefined) continue;
    if (best.shards === few) more--;
    best.shards++;
    best.load += load;
  }
  return Math.max(0, ...bins.map(({ load }) => load));
}

/** What one of `brokers` carries at most, however the shards are spread, as long as their numbers are even. */
export function worst(loads: readonly number[], brokers: number): number {
  if (brokers <= 0) return Infinity;
  const most = Math.ceil(loads.length / brokers);
  return [...loads]
    .sort((a, b) => b - a)
    .slice(0, most)
    .reduce((sum, load) => sum + load, 0);
}
