import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { BasicPciDevice, PciHost } from '../src/index.ts';

it('runs the example of the README', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  writeFileSync(file, code.replace("'@emudev/pci'", "'../src/index.ts'"));
  try {
    const { Counter } = (await import(file.href)) as { Counter: new () => BasicPciDevice };
    const device = new Counter();
    const levels: boolean[] = [];
    await device.attach({ setIntx: (level: boolean) => { levels.push(level); }, functionLevelReset: () => device.reset() } as unknown as PciHost);
    const count = async (): Promise<number> => {
      const into = new Uint8Array(4);
      await device.read(0, 0, into);
      return into[0]!;
    };
    await device.write(0, 0, Uint8Array.of(99, 0, 0, 0));
    await device.write(0, 0, Uint8Array.of(1, 0, 0, 0));
    await device.write(0, 4, new Uint8Array(4));
    expect([await count(), levels]).toEqual([100, [true, false]]);

    await device.migration!.enter('stop-copy', 'stop');
    const state = new Uint8Array(8);
    const length = await device.migration!.readState(state);
    const other = new Counter();
    await other.migration!.enter('resuming', 'stop');
    await other.migration!.writeState(state.subarray(0, length));
    await other.migration!.enter('stop', 'resuming');
    const into = new Uint8Array(4);
    await other.read(0, 0, into);
    expect([...into]).toEqual([100, 0, 0, 0]);

    // Device Control of the PCI Express capability: Initiate-FLR.
    await device.write(7, device.config.capabilityOffset(0x10)! + 8, Uint8Array.of(0, 0x80));
    expect(await count()).toBe(0);
  } finally {
    rmSync(file);
  }
});
