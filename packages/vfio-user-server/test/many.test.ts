/** Many devices in one process, their clients coming and going at once. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countMappings, countOpenFds, linux } from '@emudev/linux';
import { expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { FakeDevice, memfd, window } from './fixture.ts';
import { fields, header, LVU_VERSION, RawClient, u32 } from './raw-client.ts';

const [VERSION, DMA_MAP, SET_IRQS, READ, WRITE] = [1, 2, 8, 9, 10];
const DEVICES = 32;
const ROUNDS = 4;

it(`${DEVICES} devices, each with ${ROUNDS} clients after another, all at the same time: each sees its own device, nothing is left`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-user-many-'));
  const [fds, mappings] = [countOpenFds(), countMappings('memfd:ram')];
  const devices = Array.from({ length: DEVICES }, () => new FakeDevice());
  const servers = devices.map((device) => new VfioUserServer(device, { window }));
  const path = (i: number): string => join(folder, `${i}.sock`);
  await Promise.all(servers.map((server, i) => server.listen(path(i))));
  await Promise.all(devices.map(async (device, i) => {
    for (let round = 0; round < ROUNDS; round++) {
      const client = RawClient.connect(path(i));
      expect(await client.errno(VERSION, LVU_VERSION)).toBe(0);
      const [ram, irq] = [memfd(0x2000), linux.eventfd()];
      expect(await client.errno(DMA_MAP, fields(32, 3, 0n, 0x1000n, 0x2000n), [ram])).toBe(0);
      expect(await client.errno(SET_IRQS, fields(20, 0x24, 2, 0, 1), [irq])).toBe(0);
      expect(await client.errno(WRITE, fields(0n, 0, 4, 1000 * i + round))).toBe(0);
      expect(u32((await client.request(READ, fields(0n, 0, 4))).payload, 16)).toBe(1000 * i + round);
      await device.host!.memory.write(0x1000n, fields(i));
      device.host!.trigger(2, 0);
      const seen = new Uint8Array(4);
      linux.pread(ram, seen, 0);
      expect([u32(seen, 0), linux.eventfdDrain(irq)]).toEqual([i, 1]);
      linux.close(ram);
      linux.close(irq);
      // Some leave in the middle of a message, with a command under way; the next one connects at once.
      if ((i + round) % 3 === 0) client.send(header(9, READ, 32));
      client.close();
    }
  }));
  await Promise.all(servers.map((server) => server.close()));
  for (const device of devices) {
    expect(device.log.filter((line) => line === 'attach')).toHaveLength(ROUNDS);
    expect(device.log.filter((line) => line.startsWith('detach'))).toHaveLength(ROUNDS);
  }
  expect([countOpenFds(), countMappings('memfd:ram')]).toEqual([fds, mappings]);
  rmSync(folder, { recursive: true });
});
