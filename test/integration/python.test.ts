import { describe, expect, test } from '@jest/globals';
import { brokers } from '../support/broker.ts';
import { preparePython } from '../support/python.ts';

const python = await preparePython();
const { start } = brokers();

(python ? describe : describe.skip)('agents in Python, with nothing but generated stubs', () => {
  test('speak the event bus and the native session', async () => {
    const broker = await start();
    const said = await python?.run('agent.py', `127.0.0.1:${broker.embedded.grpcPort}`);
    expect(said).toBe('event bus: HELLO FROM PYTHON\nnative session: 4 words\n');
  });

  test('and say so if there is no broker', async () => {
    const broker = await start();
    const address = `127.0.0.1:${broker.embedded.grpcPort}`;
    await broker.stop();
    await expect(python?.run('agent.py', address)).rejects.toMatchObject({
      stderr: expect.stringContaining('UNAVAILABLE'),
    });
  });
});
