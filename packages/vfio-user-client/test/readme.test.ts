import { linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FakeServer, greet } from './fake-server.ts';

test('the example of the README attaches, maps memory and gets an interrupt', async () => {
  const path = `/tmp/vfio-user-client-readme-${process.pid}.sock`;
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  writeFileSync(file, code.replace("'@emudev/vfio-user-client'", "'../src/index.ts'").replace('/run/emudev/nic0.sock', path));
  const listener = linux.unixListen(path, 1);
  let server: FakeServer | undefined;
  let irq = -1;
  const accepting = linux.watch(listener, { readable: true }, () => {
    server = new FakeServer(linux.unixAccept(listener)!, greet((frame, self) => {
      if (frame.command === p.VFIO_USER_REGION_READ) return self.reply(frame, p.encodeRegionData(0, 7, Uint8Array.of(0x86, 0x80, 0x89, 0x18)));
      if (p.isPosted(frame.flags)) return;
      if (frame.command === p.VFIO_USER_DEVICE_SET_IRQS) {
        if (frame.fds.length > 0) irq = frame.fds[0]!;
        else linux.eventfdSignal(irq);
      }
      self.reply(frame);
    }));
  });
  try {
    const example = (await import(file.href)) as { ids: number; interrupts: number };
    expect(example.ids).toBe(0x1889_8086);
    expect(example.interrupts).toBe(1);
    await server!.ended;
    expect(server!.seen.map((frame) => frame.command)).toContain(p.VFIO_USER_DMA_MAP);
  } finally {
    rmSync(file);
    accepting[Symbol.dispose]();
    linux.close(listener);
    rmSync(path, { force: true });
  }
});
