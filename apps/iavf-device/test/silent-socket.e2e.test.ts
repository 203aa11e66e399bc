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
    /** Frames that went round since the last call. */
    const echoed = async (): Promise<number> => {
      driver.send('report');
      const seen = (await once(driver, 'message'))[0] as Steady;
      expect([seen.wrong, seen.failures]).toEqual([0, []]);
      return seen.echoed;
    };
    const several = async (frames: () => number): Promise<number> => {
      let sum = 0;
      while (sum < frames()) sum += await echoed();
      return sum;
    };
    // The link is up before the frames are: its event is the last message of the start.
    await several(() => 100);
    const commands = (): number => launcher.session('emu_iavf0')!.counters.commands;
    const before = commands();
    const began = performance.now();
    const allowed = (): number => COMMANDS_PER_LOOK * (1 + Math.ceil((performance.now() - began) / 1000));
    // On a slow machine the driver looks more often: then there have to be more frames for the comparison to say something.
    const frames = await several(() => Math.max(FRAMES, 20 * allowed()));
    expect(commands() - before).toBeLessThanOrEqual(allowed());
    expect(allowed()).toBeLessThan(frames / 10);
    expect(launcher.ports.get('net_iavf_be0')!.stats().ipackets).toBeGreaterThan(BigInt(FRAMES));
  } finally {
    driver.disconnect();
    await once(driver, 'exit');
    await launcher.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
