/** The device in a stock guest, driven from its shell: registers, and DMA into memory that the kernel leaves alone. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { VdevBus } from '@emudev/emudev';
import { Guest } from '@emudev/guest';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { expect, test } from 'vitest';
import { driver, type EduDevice } from '../src/index.ts';

/** 1 MiB at 128 MiB, below the 28 bits that the DMA engine drives. */
const RESERVED = 0x0800_0000;

test('a guest finds it, computes with it and lets it move memory', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'edu-guest-'));
  await using bus = new VdevBus().register(driver);
  const { device } = await bus.probe('emu_edu0');
  const { pci, emudev } = device as Awaited<ReturnType<typeof driver.probe>> & { pci: EduDevice };
  await emudev.configure({});
  await emudev.start();
  const errors: unknown[] = [];
  emudev.on('error', (error) => { errors.push(error); });
  await using server = new VfioUserServer(pci, { window: Window.open() });
  const socket = join(folder, 'edu.sock');
  await server.listen(socket);
  try {
    await using guest = await Guest.boot({ sockets: [socket], kernelArgs: `memmap=1M$0x${RESERVED.toString(16)}` });
    const { output } = await guest.run(`
      set -e
      lspci -vv -d 1234:11e8
      setpci -d 1234:11e8 COMMAND=6:6
      bar=0x$(setpci -d 1234:11e8 BASE_ADDRESS_0)
      rd() { devmem $(printf 0x%x $((bar + $1))) 32; }
      wr() { devmem $(printf 0x%x $((bar + $1))) 32 $2; }
      ram() { devmem $(printf 0x%x $((${RESERVED} + $1))) 32 $2; }
      done_() { while [ $(($(rd $1) & 1)) = 1 ]; do :; done; }
      echo id=$(rd 0)
      wr 4 0x12345678; echo alive=$(rd 4)
      wr 8 10; done_ 0x20; echo factorial=$(rd 8)
      ram 0 0xcafef00d; ram 0x800 0
      wr 0x80 ${RESERVED}; wr 0x88 0x40000; wr 0x90 4; wr 0x98 1; done_ 0x98
      wr 0x80 0x40000; wr 0x88 ${RESERVED + 0x800}; wr 0x90 4; wr 0x98 7; done_ 0x98
      echo moved=$(ram 0x800) causes=$(rd 0x24)
      wr 0x64 0x100; echo after=$(rd 0x24)
    `);
    expect(output).toMatch(/Device 1234:11e8 \(rev 10\)/);
    expect(output).toMatch(/Region 0: Memory at [0-9a-f]+ \(32-bit, non-prefetchable\) \[size=1M\]/);
    expect(output).toMatch(/MSI: Enable- Count=1\/1/);
    expect(output).toContain('id=0x010000ED');
    expect(output).toContain('alive=0xEDCBA987');
    expect(output).toContain(`factorial=0x${(3628800).toString(16).toUpperCase().padStart(8, '0')}`);
    expect(output).toContain('moved=0xCAFEF00D causes=0x00000100');
    expect(output).toContain('after=0x00000000');
    expect(errors).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
