import { short } from '../figures.ts';
import { agents, usual } from '../load/shapes.ts';
import type { Report } from '../report.ts';
import type { Rig } from '../rig.ts';

const TEXT = `
Agents are attached in 100 sessions with a window of one task each. Each gets one task that it holds and ten that
stay queued. Then another session works on 16 mailboxes of its own, to which batches of 100 tasks of 150 bytes are
published at a fixed rate (open loop, as in the measurement \`rate\`), and is measured. File log with fsync.
`;

const TASKS_PER_SECOND = 20_000;

/** Whether very many agents and tasks disturb those who work. */
export async function crowd(rig: Rig): Promise<Report> {
  const count = rig.quick ? 10_000 : 100_000;
  const span = rig.quick ? { warmMs: 1000, measureMs: 2000 } : { warmMs: 5000, measureMs: 30_000 };
  const probe = { ...usual(agents(16, 'probe')), ...span, tasksPerSecond: TASKS_PER_SECOND };
  return rig.broker({}, ({ child, port }) =>
    rig.load((probing) =>
      rig.load(async (load) => {
        rig.tell('before the crowd');
        const alone = await probing.ask('openLoad', { ...probe, port, first: 0 });
        const empty = await child.ask('usage', { collect: true });
        const mailboxes = agents(count);
        rig.tell(`attaching ${count} agents`);
        let from = performance.now();
        await load.ask('attachLoad', { port, sessions: 100, mailboxes, window: 1 });
        const attachMs = performance.now() - from;
        rig.tell(`publishing ${count * 11} tasks`);
        from = performance.now();
        await load.ask('fillLoad', { ...usual(mailboxes, 'task'), port, tasks: count * 11, first: 1e10 });
        const fillMs = performance.now() - from;
        const held = await child.ask('held', undefined);
        rig.tell('in the crowd');
        await child.ask('forgetPauses', undefined);
        const crowded = await probing.ask('openLoad', { ...probe, port, first: 1e9 });
        const { pauses, rssBytes } = await child.ask('usage', { collect: false });
        const rows = [
          ['alone', alone.delivered],
          ['in the crowd', crowded.delivered],
        ] as const;
        const { p99 } = crowded.delivered;
        return {
          text: TEXT,
          targets: [
            {
              measure: `${short(count)} agents attached (100 sessions), ${short(held.tasks - count)} queued tasks`,
              reach: 'p99 ≤ 20 ms',
              got: `p99 ${p99.toFixed(2)} ms, RSS ${short(rssBytes / 2 ** 20)} MiB, longest pause ${short(pauses.longestMs)} ms`,
              reached: p99 <= 20 && held.tasks >= count * 11,
            },
          ],
          tables: [
            {
              title: `Milliseconds from due to delivered at ${short(TASKS_PER_SECOND)} tasks/s`,
              columns: ['', 'p50', 'p90', 'p99', 'p99.9', 'longest'],
              rows: rows.map(([name, delays]) => [
                name,
                ...[delays.p50, delays.p90, delays.p99, delays.p999, delays.most].map((value) =>
                  value.toFixed(2),
                ),
              ]),
            },
            {
              title: 'The broker in the crowd',
              columns: ['', ''],
              rows: [
                ['agents attached', `${short(count)} in ${short(attachMs / 1000)} s`],
                ['tasks published', `${short(count * 11)} in ${short(fillMs / 1000)} s`],
                ['tasks that have not ended', short(held.tasks)],
                [
                  'RSS before and in the crowd',
                  `${short(empty.rssBytes / 2 ** 20)} MiB, ${short(rssBytes / 2 ** 20)} MiB`,
                ],
                [
                  'pauses of the garbage collector',
                  `${pauses.count}, ${short(pauses.totalMs)} ms together, the longest ${short(pauses.longestMs)} ms`,
                ],
              ],
            },
          ],
          charts: [],
          raw: { alone, crowded, attachMs, fillMs, held, empty, pauses, rssBytes },
        };
      }),
    ),
  );
}
