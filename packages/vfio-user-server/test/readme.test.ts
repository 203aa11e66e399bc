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
    const irq = linux.eventfd();
    expect(await client.errno(8, fields(20, 0x24, 2, 0, 1), [irq])).toBe(0);
    for (const pins of [1, 1, 3]) await client.request(10, fields(0n, 2, 4, pins));
    expect(linux.eventfdDrain(irq)).toBe(2);
    expect(u32((await client.request(9, fields(0n, 2, 4))).payload, 16)).toBe(3);
    expect(u32((await client.request(9, fields(0n, 7, 4))).payload, 16)).toBe(0x0dc8494f);
    expect(await client.errno(13, new Uint8Array(0))).toBe(0);
    expect(u32((await client.request(9, fields(0n, 2, 4))).payload, 16)).toBe(0);
    linux.close(irq);
    client.close();
    await server.close();
  } finally {
    rmSync(file);
    rmSync(directory, { recursive: true });
  }
});
