import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readBrokerCluster } from '../operator/api/brokercluster.ts';
import { officeDay, replay } from '../test/support/scaling-day.ts';
import type { Decided } from '../test/support/scaling-day.ts';

const WIDTH = 760;
const HEIGHT = 260;
const LEFT = 50;
const RIGHT = 40;
const TOP = 24;
const BOTTOM = 30;
const DAY = 24 * 60;

const { spec } = readBrokerCluster({
  metadata: { name: 'hub', namespace: 'agents', uid: '', generation: 1, annotations: {} },
  spec: { pools: [{ name: 'default', maxReplicas: 12 }] },
});
const pool = { minReplicas: 2, maxReplicas: 12, shards: 16, cpuCores: 1 };
const day = replay(officeDay(), spec.autoscaling, pool);

const x = (minute: number): number => LEFT + (minute / DAY) * (WIDTH - LEFT - RIGHT);
const y = (share: number): number => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);

/** A line through a figure of every fifth minute, or where it changes. */
function path(of: (each: Decided) => number, most: number, steps: boolean): string {
  const points = day.filter(
    (each, at) =>
      at === 0 || at === day.length - 1 || (steps ? of(each) !== of(day[at - 1]!) : each.minute % 5 === 0),
  );
  return points
    .map((each, at) => {
      const [px, py] = [x(each.minute).toFixed(1), y(of(each) / most).toFixed(1)];
      if (at === 0) return `M${px},${py}`;
      return steps ? `H${px}V${py}` : `L${px},${py}`;
    })
    .join('');
}

const most = 300_000;
const hours = [0, 4, 8, 12, 16, 20, 24];
const silent = day.filter(({ told }) => !told).map(({ minute }) => minute);
const [from = 0, to = 0] = [silent[0], silent.at(-1)];
const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11" fill="#57606a">
<title>Brokers through a day, as autoscaling with its defaults chooses them</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
<rect x="${x(from).toFixed(1)}" y="${TOP}" width="${(x(to) - x(from)).toFixed(1)}" height="${HEIGHT - TOP - BOTTOM}" fill="#eaeef2"/>
<text x="${x((from + to) / 2).toFixed(1)}" y="${HEIGHT - BOTTOM - 6}" text-anchor="middle">no answers</text>
${hours.map((hour) => `<text x="${x(hour * 60).toFixed(1)}" y="${HEIGHT - 10}" text-anchor="middle">${hour}:00</text>`).join('\n')}
${[0, 4, 8, 12].map((count) => `<text x="${WIDTH - RIGHT + 8}" y="${(y(count / 12) + 4).toFixed(1)}" fill="#cf222e">${count}</text>`).join('\n')}
${[0, 100, 200, 300].map((load) => `<text x="${LEFT - 8}" y="${(y(load / 300) + 4).toFixed(1)}" text-anchor="end" fill="#0969da">${load}k</text>`).join('\n')}
<text x="${LEFT}" y="14" fill="#0969da">tasks/s</text>
<text x="${WIDTH - RIGHT}" y="14" text-anchor="end" fill="#cf222e">brokers</text>
<path d="${path(({ load }) => load, most, false)}" fill="none" stroke="#0969da"/>
<path d="${path(({ replicas }) => replicas, 12, true)}" fill="none" stroke="#cf222e" stroke-width="1.6"/>
</svg>
`;

const folder = join(process.argv[2] ?? '.', 'docs');
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'scaling.svg'), svg);
