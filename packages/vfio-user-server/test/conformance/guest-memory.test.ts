import { expect } from 'vitest';
import { linux } from '@emudev/linux';
import { concat, ERROR, fields, header, message, RawClient, REPLY, u64 } from '../raw-client.ts';
import { caps, DMA_MAP, DMA_READ, DMA_WRITE, dmaMap, EFAULT, EIO, PAGE, VERSION } from '../requests.ts';
import { conformance, type Rig } from './suite.ts';

const pattern = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => i * 7 + 1);
const fault = expect.objectContaining({ errno: EFAULT }) as Error;

/** Regions one behind the other from 0x10000, each a file of its own filled with its number. */
async function adjacent({ client, memfd }: Rig, ...sizes: readonly number[]): Promise<void> {
  let at = 0x10000n;
  for (const [i, size] of sizes.entries()) {
    const fd = memfd(size);
    linux.pwrite(fd, new Uint8Array(size).fill(i + 1), 0);
    expect(await client.errno(DMA_MAP, dmaMap(at, BigInt(size)), [fd])).toBe(0);
    at += BigInt(size);
  }
}

conformance('guest-memory', {
  G1: {
    title: 'inside one region: translated, relative to its start',
    run: async (rig) => {
      await adjacent(rig, 0x4000);
      const { memory } = rig.device.host!;
      expect(memory.translate(0x11010n, 0x20, 'read')).toBe(memory.translate(0x10000n, 0x4000, 'write')! + 0x1010);
    },
  },
  G2: {
    title: 'beyond the region, or a hole: not translated; an access is EFAULT and moves no byte',
    run: async (rig) => {
      await adjacent(rig, 0x1000);
      const { memory } = rig.device.host!;
      const into = new Uint8Array(16);
      for (const iova of [0x10ff8n, 0xfff8n, 0x11000n, 0n, 2n ** 64n - 8n]) {
        expect(memory.translate(iova, 16, 'read')).toBeUndefined();
        expect(() => memory.read(iova, into)).toThrow(fault);
      }
      expect(into).toEqual(new Uint8Array(16));
    },
  },
  G3: {
    title: 'a write to a read-only region, a read of a write-only one: refused (better: EFAULT, as every other address the device must not touch)',
    run: async ({ client, device, memfd }) => {
      expect(await client.errno(DMA_MAP, dmaMap(0n, PAGE, 0n, 1), [memfd(0x1000)])).toBe(0);
      expect(await client.errno(DMA_MAP, dmaMap(PAGE, PAGE, 0n, 2), [memfd(0x1000)])).toBe(0);
      const { memory } = device.host!;
      expect([memory.translate(0n, 4, 'read') !== undefined, memory.translate(0n, 4, 'write'), memory.translate(PAGE, 4, 'read')]).toEqual([true, undefined, undefined]);
      expect(() => memory.write(0n, new Uint8Array(4))).toThrow(fault);
      expect(() => memory.read(PAGE, new Uint8Array(4))).toThrow(fault);
    },
  },
  G4: {
    title: 'over two regions: one access, both parts',
    run: async (rig) => {
      await adjacent(rig, 0x4000, 0x1000);
      const into = new Uint8Array(0x5000);
      await rig.device.host!.memory.read(0x10000n, into);
      expect([into.lastIndexOf(1), into.indexOf(2), into.lastIndexOf(2)]).toEqual([0x3fff, 0x4000, 0x4fff]);
    },
  },
  G5: {
    title: 'over three pages of three files: one access, each page from its file',
    run: async (rig) => {
      await adjacent(rig, 0x1000, 0x1000, 0x1000);
      const { memory } = rig.device.host!;
      const into = new Uint8Array(0x3000);
      await memory.read(0x10000n, into);
      expect([0, 0x1000, 0x2000].map((at) => into.subarray(at, at + 0x1000).every((byte) => byte === at / 0x1000 + 1))).toEqual([true, true, true]);
      await memory.write(0x10ffen, Uint8Array.of(9, 9, 9, 9));
      const across = into.subarray(0, 5);
      await memory.read(0x10ffen, across);
      expect([...across]).toEqual([9, 9, 9, 9, 2]);
    },
  },
  G6: {
    title: 'where nothing is mapped at all: EFAULT, never an address',
    run: ({ device }) => {
      expect(device.host!.memory.translate(0n, 1, 'read')).toBeUndefined();
      expect(() => device.host!.memory.write(0n, new Uint8Array(1))).toThrow(fault);
    },
  },
  G7: {
    title: 'a region without a descriptor has no address; its bytes come by message',
    exchanges: [{ send: [DMA_MAP, dmaMap(0n, PAGE)], reply: 0 }],
    run: async ({ client, device }) => {
      const { memory } = device.host!;
      expect(memory.translate(0n, 4, 'read')).toBeUndefined();
      const into = new Uint8Array(4);
      const read = Promise.resolve(memory.read(0n, into));
      const asked = await client.next();
      client.send(message(asked.id, DMA_READ, concat(asked.payload, Uint8Array.of(1, 2, 3, 4)), REPLY));
      await read;
      expect([...into]).toEqual([1, 2, 3, 4]);
    },
  },
  M1: {
    title: 'twin socket, max_data_xfer_size a page, 2 pages and 42 bytes: three messages on the twin, the data intact',
    given: () => ({ version: null }),
    run: async ({ client, device }) => {
      const reply = await client.request(VERSION, caps('{"max_msg_fds":8,"max_data_xfer_size":4096,"twin_socket":{"supported":true}}'));
      expect(reply.fds).toHaveLength(1);
      const twin = new RawClient(reply.fds[0]!);
      expect(await client.errno(DMA_MAP, dmaMap(0n, 16n * PAGE))).toBe(0);
      const data = pattern(2 * 4096 + 42);
      const written = Promise.resolve(device.host!.memory.write(0x100n, data));
      const got: Uint8Array[] = [];
      for (const count of [4096, 4096, 42]) {
        const m = await twin.next();
        expect([m.command, u64(m.payload, 8)]).toEqual([DMA_WRITE, BigInt(count)]);
        got.push(m.payload.slice(16));
        twin.send(message(m.id, DMA_WRITE, m.payload.slice(0, 16), REPLY));
      }
      await written;
      expect(concat(...got)).toEqual(data);
      const into = new Uint8Array(data.length);
      const read = Promise.resolve(device.host!.memory.read(0x100n, into));
      for (const [at, count] of [[0, 4096], [4096, 4096], [8192, 42]] as const) {
        const m = await twin.next();
        expect([m.command, m.payload]).toEqual([DMA_READ, fields(0x100n + BigInt(at), BigInt(count))]);
        twin.send(message(m.id, DMA_READ, concat(m.payload, data.subarray(at, at + count)), REPLY));
      }
      await read;
      expect(into).toEqual(data);
      expect(client.received).toBe(0);
      client.close();
      await twin.closed;
      twin.close();
    },
    after: 'ended',
  },
  M2: {
    title: 'the client answers EIO: so does the access',
    exchanges: [{ send: [DMA_MAP, dmaMap(0n, PAGE)], reply: 0 }],
    run: async ({ client, device }) => {
      const settled = expect(device.host!.memory.read(0n, new Uint8Array(4))).rejects.toMatchObject({ errno: EIO });
      client.send(header((await client.next()).id, DMA_READ, 16, REPLY | ERROR, EIO));
      await settled;
    },
  },
  M3: {
    title: 'what is mapped never costs a message (better: no flag to choose wrongly)',
    run: async (rig) => {
      await adjacent(rig, 0x1000);
      const { memory } = rig.device.host!;
      expect([memory.write(0x10000n, new Uint8Array(16)), memory.read(0x10000n, new Uint8Array(16))]).toEqual([undefined, undefined]);
      expect(rig.client.received).toBe(0);
    },
  },
  M4: {
    title: 'an access over mapped memory and memory reached by message is one call (better: LVU takes one region only)',
    run: async (rig) => {
      await adjacent(rig, 0x1000);
      expect(await rig.client.errno(DMA_MAP, dmaMap(0x11000n, PAGE))).toBe(0);
      const into = new Uint8Array(8);
      const read = Promise.resolve(rig.device.host!.memory.read(0x10ffcn, into));
      const asked = await rig.client.next();
      expect(asked.payload).toEqual(fields(0x11000n, 4n));
      rig.client.send(message(asked.id, DMA_READ, concat(asked.payload, Uint8Array.of(5, 6, 7, 8)), REPLY));
      await read;
      expect([...into]).toEqual([1, 1, 1, 1, 5, 6, 7, 8]);
    },
  },
});
