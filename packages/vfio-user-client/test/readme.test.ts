/** The examples of the README, as they are printed. */
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import type { Handler } from './fake-server.ts';
import { PathServer, smallDevice } from './path-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-user-client-readme-'));
const blocks = [...readFileSync(new URL('../README.md', import.meta.url), 'utf8').matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);
afterAll(() => { rmSync(folder, { recursive: true }); });

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

/** Runs a block against the servers in `folder`; resolves to what it exports. */
async function run(n: number): Promise<Record<string, unknown>> {
  const file = new URL(`./readme-example-${n}.gen.ts`, import.meta.url);
  writeFileSync(file, blocks[n]!.replaceAll("'@emudev/vfio-user-client'", "'../src/index.ts'").replaceAll('/run/emudev', folder));
  try {
    return { ...(await import(file.href) as Record<string, unknown>) };
  } finally {
    rmSync(file);
  }
}

/** The small device, with a loopback of interrupts and one piece of state. */
function device(): { handler: Handler; memory: Uint8Array; state: () => number; restored: number[] } {
  const memory = new Uint8Array(4096);
  memory.set([0x86, 0x80, 0x89, 0x18, 7, 0, 0x10, 0]);
  const small = smallDevice({}, memory);
  const restored: number[] = [];
  let [irq, state, read] = [-1, 2, false];
  const handler: Handler = (frame, server) => {
    switch (frame.command) {
      case p.VFIO_USER_DEVICE_SET_IRQS:
        if (frame.fds.length > 0) irq = frame.fds[0]!;
        else if (p.decodeSetIrqs(frame.payload, 0, () => 16).data === 'none') linux.eventfdSignal(irq);
        return server.reply(frame);
      case p.VFIO_USER_DEVICE_FEATURE: {
        const { feature, operations, data } = p.decodeDeviceFeature(frame.payload);
        if (operations === p.VFIO_DEVICE_FEATURE_GET) return server.reply(frame, p.encodeDeviceFeature(feature, operations, feature === 1 ? p.encodeMigrationFeature(5) : p.encodeMigDeviceState(state)));
        if (feature === p.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE) state = p.decodeMigDeviceState(data);
        return server.reply(frame, frame.payload);
      }
      case p.VFIO_USER_MIG_DATA_READ: {
        const data = state === 3 && !read ? Uint8Array.of(42) : new Uint8Array(0);
        read ||= state === 3;
        return server.reply(frame, p.encodeMigDataReadReply(data));
      }
      case p.VFIO_USER_MIG_DATA_WRITE:
        restored.push(...p.decodeMigDataWrite(frame.payload, 64));
        return server.reply(frame);
    }
    small(frame, server);
  };
  return { handler, memory, state: () => state, restored };
}

test('the first attaches, gives memory and gets an interrupt', async () => {
  const { handler, memory } = device();
  using server = new PathServer(join(folder, 'nic0.sock'), handler);
  expect(await run(0)).toMatchObject({ ids: 0x1889_8086, interrupt: { vector: 0, count: 1 } });
  await server.last.ended;
  expect(new DataView(memory.buffer).getBigUint64(0x20, true)).toBe(0x1_0000_0000n);
  expect(memory[0x40]).toBe(1);
  expect(server.last.seen.map((frame) => frame.command)).toContain(p.VFIO_USER_DMA_UNMAP);
});

test('the second moves a device', async () => {
  const [old, fresh] = [device(), device()];
  using from = new PathServer(join(folder, 'old.sock'), old.handler);
  using to = new PathServer(join(folder, 'new.sock'), fresh.handler);
  expect(await run(1)).toEqual({ pages: [], moved: { preCopyBytes: 0, stopCopyBytes: 1 } });
  expect([old.state(), fresh.state(), fresh.restored]).toEqual([1, 2, [42]]);
  await Promise.all([from.last.ended, to.last.ended]);
});

test('the third connects for good', async () => {
  using server = new PathServer(join(folder, 'nic0.sock'), device().handler);
  expect(await run(2)).toEqual({ events: [], status: 0x10 });
  await server.last.ended;
});
