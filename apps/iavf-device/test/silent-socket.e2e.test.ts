/** Traffic is stores into shared memory: no message travels on the socket for a packet, a burst, a doorbell or an interrupt. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Launcher, parseArguments } from '@emudev/iavf-device';
import { HandDriver, RAM_IOVA } from './support/hand-driver.ts';
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

test('a driver that sleeps until it is interrupted, hundreds of times, and not one command on the socket', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'emudev-test-'));
  const socket = join(folder, 'silent.sock');
  const launcher = await Launcher.start(parseArguments(['--socket', socket, '--far', 'loop']));
  const driver = await HandDriver.attach(socket);
  try {
    const { ram, window } = driver;
    const [rxRing, buffers] = [0x1_0000, 0x10_0000];
    await driver.filters();
    await driver.configure({
      tx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA },
      rx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA + BigInt(rxRing), bufferBytes: 2048, maxPacketBytes: 9728 },
    });
    const post = (slot: number): void => {
      window.view.setBigUint64(ram.offset + rxRing + 32 * slot, RAM_IOVA + BigInt(buffers + 2048 * slot), true);
      window.view.setBigUint64(ram.offset + rxRing + 32 * slot + 8, 0n, true);
    };
    for (let slot = 0; slot < 64; slot++) post(slot);
    driver.setTail('rx', 0, 63);
    window.u8.set(driver.mac, ram.offset + 0x20_0000);
    window.u8.set(driver.mac, ram.offset + 0x20_0006);
    expect((await driver.enable(1)).status).toBe(0);
    const { counters } = launcher.session('emu_iavf0')!;
    const before = counters.commands;
    let interrupts = 0;
    for (let number = 0; number < 500; number++) {
      const slot = number % 64;
      driver.storeArm(1);
      window.view.setBigUint64(ram.offset + 16 * slot, RAM_IOVA + 0x20_0000n, true);
      window.view.setBigUint64(ram.offset + 16 * slot + 8, (3n << 4n) | (64n << 34n), true);
      driver.setTail('tx', 0, (slot + 1) % 64);
      // That it was sent may be an interrupt of its own.
      do {
        await driver.interrupted(1);
        interrupts++;
        driver.storeArm(1);
      } while ((window.view.getBigUint64(ram.offset + rxRing + 32 * slot + 8, true) & 1n) === 0n);
      post(slot);
      driver.setTail('rx', 0, (slot + 63) % 64);
    }
    expect(interrupts).toBeGreaterThanOrEqual(500);
    expect(counters.commands - before).toBe(0);
  } finally {
    await driver[Symbol.asyncDispose]();
    await launcher.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
