import type { Shape } from './batches.ts';
import { templatesOf } from './batches.ts';
import { FrameSession } from './stream.ts';

const OUTSTANDING = 32;

/** Tasks that are published and then stay. */
export interface FillLoad extends Shape {
  readonly port: number;
  readonly tasks: number;
  readonly first: number;
}

/** Publishes tasks; done when all are acknowledged. */
export async function fillLoad(load: FillLoad): Promise<void> {
  const { port, tasks, batch, first } = load;
  const templates = templatesOf(load);
  const { promise, resolve } = Promise.withResolvers<void>();
  let sent = 0;
  let acknowledged = 0;
  const pump = (): void => {
    while (sent < tasks && sent - acknowledged < OUTSTANDING * batch) {
      session.write(templates[(sent / batch) % templates.length]!.frame(sent / batch + 1, first + sent));
      sent += batch;
    }
    if (acknowledged >= tasks) resolve();
  };
  const session = new FrameSession(port, {
    published() {
      acknowledged += batch;
      pump();
    },
  });
  await session.open([]);
  pump();
  await promise;
  session.close();
}

/** Agents that are attached and do nothing. */
export interface AttachLoad {
  readonly port: number;
  readonly sessions: number;
  readonly mailboxes: readonly string[];
  readonly window: number;
}

/** Attaches agents, shared out to sessions that stay open until this process ends. */
export async function attachLoad({ port, sessions, mailboxes, window }: AttachLoad): Promise<void> {
  const share = Math.ceil(mailboxes.length / sessions);
  for (let from = 0; from < mailboxes.length; from += share) {
    await new FrameSession(port, {}).open(mailboxes.slice(from, from + share), window);
  }
}
