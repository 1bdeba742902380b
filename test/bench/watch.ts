import type { Usage } from './usage.ts';

const EVERY_MS = 200;

/** A process whose usage can be asked for. */
export interface Watched {
  ask(name: 'usage', options: { readonly collect: boolean }): Promise<Usage>;
}

/** Answers with what `run` does, and how much CPU time `peer` used in a span of that time. */
export async function watched<T>(
  peer: Watched,
  run: () => Promise<T>,
): Promise<{ readonly output: T; readonly cpuUs: (from: number, to: number) => number }> {
  const samples: { at: number; cpuUs: number }[] = [];
  let running = true;
  const watch = async (): Promise<void> => {
    while (running) {
      const { cpuUs } = await peer.ask('usage', { collect: false });
      samples.push({ at: performance.timeOrigin + performance.now(), cpuUs });
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  };
  const watching = watch();
  try {
    const output = await run();
    return { output, cpuUs: (from, to) => at(samples, to) - at(samples, from) };
  } finally {
    running = false;
    await watching;
  }
}

/** The CPU time at a moment, between two samples. */
function at(samples: readonly { at: number; cpuUs: number }[], moment: number): number {
  const after = samples.findIndex((sample) => sample.at >= moment);
  const next = samples[after] ?? samples.at(-1);
  const last = samples[after - 1] ?? next;
  if (!last || !next) return NaN;
  const part = next.at === last.at ? 0 : (moment - last.at) / (next.at - last.at);
  return last.cpuUs + part * (next.cpuUs - last.cpuUs);
}
