/** Traffic is stores into shared memory: no message travels on the socket for a packet, a burst, a doorbell or an interrupt. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Launcher, parseArguments } from '@emudev/iavf-device';
import type { Steady } from './support/steady-driver.ts';

const DRIVER = fileURLToPath(new URL('./support/steady-driver.ts', import.meta.url));
const FRAMES = 2000;
/** The driver looks into its mailbox once a second, whatever the traffic: a few register accesses. */
const COMMANDS_PER_LOOK = 5;

test.each(['1', '2'])('thousands of frames, %s lcore(s), and no command on the socket because of them', async (lcores) => {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
  const socket = join(folder, 'silent.sock');
  const launcher = await Launcher.start(parseArguments(['--socket', socket, '--far', 'loop', '--queues', '2', '--lcores', lcores]));
  const driver = fork(DRIVER, [socket]);
  try {
    await once(driver, 'message');
    const ask = async (): Promise<Steady> => {
      driver.send('report');
      return (await once(driver, 'message'))[0] as Steady;
    };
    // The link is up before the frames are: its event is the last message of the start.
    while ((await ask()).echoed < 100);
    const commands = (): number => launcher.session('emu_iavf0')!.counters.commands;
    const before = commands();
    const began = performance.now();
    let echoed = 0;
    while (echoed < FRAMES) {
      const seen = await ask();
      expect([seen.wrong, seen.failures]).toEqual([0, []]);
      echoed += seen.echoed;
    }
    const looks = 1 + Math.ceil((performance.now() - began) / 1000);
    expect(looks).toBeLessThan(FRAMES / 100);
    expect(commands() - before).toBeLessThanOrEqual(COMMANDS_PER_LOOK * looks);
    expect(launcher.ports.get('net_iavf_be0')!.stats().ipackets).toBeGreaterThan(BigInt(FRAMES));
  } finally {
    driver.disconnect();
    await once(driver, 'exit');
    await launcher.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
