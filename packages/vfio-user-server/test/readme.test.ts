import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linux } from '@emudev/linux';
import { expect, it } from 'vitest';
import type { VfioUserServer } from '../src/index.ts';
import { fields, QEMU_VERSION, RawClient, u32 } from './raw-client.ts';

it('serves the GPIO card of the README', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const directory = mkdtempSync(join(tmpdir(), 'gpio-'));
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  const path = join(directory, 'gpio.sock');
  writeFileSync(file, /```ts\n([\s\S]*?)```/.exec(readme)![1]!.replace("'@emudev/vfio-user-server'", "'../src/index.ts'").replace("'gpio.sock'", JSON.stringify(path)));
  try {
    const { server } = (await import(file.href)) as { server: VfioUserServer };
    const client = RawClient.connect(path);
    await client.request(1, QEMU_VERSION);
    const [INTX, UNMASK] = [0, 0x11];
    const irq = linux.eventfd();
    const write = (offset: bigint, value: number): Promise<unknown> => client.request(10, fields(offset, 0, 4, value));
    const read = async (region: number, offset: bigint): Promise<number> => u32((await client.request(9, fields(offset, region, 4))).payload, 16);
    expect(await client.errno(8, fields(20, 0x24, INTX, 0, 1), [irq])).toBe(0);
    for (const pins of [1, 1]) await write(0n, pins);
    expect(linux.eventfdDrain(irq)).toBe(1);
    expect([await read(0, 0n), await read(0, 4n)]).toEqual([1, 1]);
    await write(4n, 1);
    expect(await client.errno(8, fields(20, UNMASK, INTX, 0, 1))).toBe(0);
    expect([linux.eventfdDrain(irq), await read(0, 4n)]).toEqual([0, 0]);
    await write(0n, 3);
    expect([linux.eventfdDrain(irq), await read(0, 4n)]).toEqual([1, 2]);
    expect(await read(7, 0n)).toBe(0x0020e0de);
    expect(await client.errno(13, new Uint8Array(0))).toBe(0);
    expect([await read(0, 0n), await read(0, 4n)]).toEqual([0, 0]);
    linux.close(irq);
    client.close();
    await server.close();
  } finally {
    rmSync(file);
    rmSync(directory, { recursive: true });
  }
});
