/** Each command against a small device that behaves. */
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VfioUserClient } from '../src/index.ts';
import type { DmaHandler } from '../src/index.ts';
import { attach, FakeServer, greet } from './fake-server.ts';
import type { Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

/** Region 2 is 256 bytes of memory; everything else just succeeds. */
function device(memory: Uint8Array = new Uint8Array(256)): Handler {
  return (frame, server) => {
    switch (frame.command) {
      case p.VFIO_USER_REGION_READ: {
        const access = p.decodeRegionRead(frame.payload, 64);
        if (access.region !== 2 || access.offset + access.count > memory.length) return server.refuse(frame, p.EINVAL);
        const reply = p.newRegionReadReply(frame.id, access);
        reply.set(memory.subarray(access.offset, access.offset + access.count), p.REGION_DATA_AT);
        return server.send(reply);
      }
      case p.VFIO_USER_REGION_WRITE: {
        const write = p.decodeRegionWrite(frame.payload, 64);
        memory.set(write.data, write.offset);
        if (!p.isPosted(frame.flags)) server.send(p.newRegionWriteReply(frame.id, write));
        return;
      }
      case p.VFIO_USER_DEVICE_GET_IRQ_INFO:
        return server.reply(frame, p.encodeIrqInfo({ flags: 1, index: p.decodeGetIrqInfo(frame.payload).index, count: 17 }));
      case p.VFIO_USER_DMA_UNMAP:
        return server.reply(frame, p.encodeDmaUnmapReply(p.decodeDmaUnmap(frame.payload)));
      default:
        return server.reply(frame);
    }
  };
}

describe('attaching', () => {
  test('learns what the device has and what the server takes', async () => {
    using at = await attach(device());
    expect(at.client.info).toEqual({ flags: 3, numRegions: 9, numIrqs: 5 });
    expect(at.client.resettable).toBe(true);
    expect(at.client.server).toMatchObject({ maxMsgFds: 4, maxDataXferSize: 64, maxDmaMaps: 65_535 });
  });

  test('is given up when its caller says so, and later it is too late', async () => {
    const [own, peer] = linux.unixSocketPair();
    const abort = new AbortController();
    const connecting = VfioUserClient.connect({ fd: own }, { signal: abort.signal });
    abort.abort();
    await expect(connecting).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    linux.close(peer);
    const late = new AbortController();
    using at = await attach(device(), { signal: late.signal });
    late.abort();
    expect(await at.client.read(2, 0, 1)).toEqual(Uint8Array.of(0));
  });

  test('a descriptor that is no socket is a typed error', async () => {
    await expect(VfioUserClient.connect({ fd: 999 })).rejects.toMatchObject({ name: 'ClientError', code: 'ERR_VFU_CLIENT_ARGUMENT', message: 'descriptor 999 is no socket' });
  });

  test('a descriptor that is none fails its request, and only that', async () => {
    using at = await attach(device());
    await expect(at.client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true, fd: 999 })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT', message: '999 is no open descriptor' });
    await expect(at.client.setIrqEventfds(2, 0, [999])).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    expect(at.client.dma.count).toBe(0);
    expect(await at.client.read32(2, 0)).toBe(0);
    await expect(at.client.read32(2, 256)).rejects.toThrow('the server refused REGION_READ with EINVAL');
  });

  test('by path; nobody there is a typed error', async () => {
    const path = `/tmp/vfio-user-client-${process.pid}.sock`;
    await expect(VfioUserClient.connect(path)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CONNECT', errno: 2 });
    const listener = linux.unixListen(path, 1);
    let server: FakeServer | undefined;
    const accepting = linux.watch(listener, { readable: true }, () => {
      const fd = linux.unixAccept(listener);
      if (fd !== undefined) server = new FakeServer(fd, greet(device()));
    });
    {
      await using client = await VfioUserClient.connect(path);
      expect(await client.read32(2, 0)).toBe(0);
    }
    await server!.ended;
    accepting[Symbol.dispose]();
    linux.close(listener);
    rmSync(path, { force: true });
  });
});

describe('regions', () => {
  test('reads and writes; long ones in pieces the server takes', async () => {
    using at = await attach(device());
    const bytes = Uint8Array.from({ length: 200 }, (_, i) => i);
    await at.client.write(2, 10, bytes);
    expect(await at.client.read(2, 10, 200)).toEqual(bytes);
    const writes = at.server.seen.filter((frame) => frame.command === p.VFIO_USER_REGION_WRITE);
    expect(writes.map((frame) => frame.payload.length - 16)).toEqual([64, 64, 64, 8]);
  });

  test('32-bit registers are little endian and unsigned', async () => {
    const memory = new Uint8Array(256);
    using at = await attach(device(memory));
    await at.client.write32(2, 8, 0xfedc_ba98);
    expect([...memory.subarray(8, 12)]).toEqual([0x98, 0xba, 0xdc, 0xfe]);
    expect(await at.client.read32(2, 8)).toBe(0xfedc_ba98);
  });

  test('a posted write asks for no answer and is there for the read behind it', async () => {
    using at = await attach(device());
    await at.client.write32(2, 0, 7, { posted: true });
    expect(await at.client.read32(2, 0)).toBe(7);
    expect(at.server.seen[0]!.flags).toBe(p.VFIO_USER_F_NO_REPLY);
  });

  test('concurrent requests are matched by id, whatever the order of the answers', async () => {
    const held: Parameters<Handler>[0][] = [];
    using at = await attach((frame, server) => {
      held.push(frame);
      if (held.length < 8) return;
      for (const late of held.reverse()) device(Uint8Array.from({ length: 256 }, (_, i) => i))(late, server);
    });
    const reads = await Promise.all(Array.from({ length: 8 }, (_, i) => at.client.read(2, i, 1)));
    expect(reads.map((bytes) => bytes[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('a refusal carries the errno, and the connection goes on', async () => {
    using at = await attach(device());
    await expect(at.client.read(3, 0, 4)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED', errno: 22 });
    expect(await at.client.read32(2, 0)).toBe(0);
  });

  test('arguments no server could accept are refused here', async () => {
    using at = await attach(device());
    for (const [region, offset, length] of [[-1, 0, 4], [0, -1, 4], [0, 2 ** 53, 4], [0, 0, -1], [0, 0.5, 4]] as const) {
      await expect(at.client.read(region, offset, length)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    }
    await expect(at.client.regionInfo(9)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    expect(at.server.seen).toEqual([]);
  });
});

describe('interrupts', () => {
  test('info', async () => {
    using at = await attach(device());
    expect(await at.client.irqInfo(2)).toEqual({ flags: 1, index: 2, count: 17 });
    await expect(at.client.irqInfo(5)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
  });

  test('eventfds travel with their vectors, as many at a time as the server takes', async () => {
    using at = await attach(device());
    const fds = Array.from({ length: 6 }, () => linux.eventfd());
    await at.client.setIrqEventfds(2, 3, fds);
    const requests = at.server.seen.map((frame) => ({ ...p.decodeSetIrqs(frame.payload, frame.fds.length, () => 17), fds: frame.fds.length }));
    expect(requests).toEqual([
      { action: 'trigger', index: 2, start: 3, count: 4, data: 'eventfd', fds: 4 },
      { action: 'trigger', index: 2, start: 7, count: 2, data: 'eventfd', fds: 2 },
    ]);
    linux.eventfdSignal(at.server.seen[1]!.fds[1]!);
    expect(fds.map((fd) => linux.eventfdDrain(fd)), 'the sixth is signalled').toEqual([0, 0, 0, 0, 0, 1]);
    for (const fd of fds) linux.close(fd);
  });

  test('clear, remove, trigger, mask and unmask', async () => {
    using at = await attach(device());
    await at.client.clearIrqs(2);
    await at.client.removeIrqEventfds(2, 4, 2);
    await at.client.triggerIrq(2, 5);
    await at.client.maskIrq(0, 0);
    await at.client.unmaskIrq(0, 0);
    expect(at.server.seen.map((frame) => p.decodeSetIrqs(frame.payload, 0, () => 17))).toEqual([
      { action: 'trigger', index: 2, start: 0, count: 0, data: 'none' },
      { action: 'trigger', index: 2, start: 4, count: 2, data: 'eventfd' },
      { action: 'trigger', index: 2, start: 5, count: 1, data: 'none' },
      { action: 'mask', index: 0, start: 0, count: 1, data: 'none' },
      { action: 'unmask', index: 0, start: 0, count: 1, data: 'none' },
    ]);
  });
});

describe('DMA', () => {
  test('maps with and without a file, unmaps one and all, resets', async () => {
    using at = await attach(device());
    const fd = linux.memfdCreate('ram', { allowSealing: true });
    await at.client.dmaMap({ iova: 0x10000n, sizeBytes: 0x2000, readable: true, writable: true, fd, fdOffset: 0x1000 });
    linux.close(fd);
    await at.client.dmaMap({ iova: 0x20000n, sizeBytes: 0x1000, readable: true, writable: false });
    await at.client.dmaUnmap(0x10000n, 0x2000);
    await at.client.dmaUnmapAll();
    await at.client.reset();
    const [first, second, third, fourth, fifth] = at.server.seen;
    expect(p.decodeDmaMap(first!.payload, first!.fds.length)).toEqual({ argsz: 32, flags: 3, fdOffset: 0x1000n, address: 0x10000n, size: 0x2000n });
    expect(p.decodeDmaMap(second!.payload, second!.fds.length)).toEqual({ argsz: 32, flags: 1, fdOffset: 0n, address: 0x20000n, size: 0x1000n });
    expect([first!.fds.length, second!.fds.length]).toEqual([1, 0]);
    expect(p.decodeDmaUnmap(third!.payload)).toMatchObject({ flags: 0, address: 0x10000n, size: 0x2000n });
    expect(p.decodeDmaUnmap(fourth!.payload)).toMatchObject({ flags: 2, address: 0n, size: 0n });
    expect([fifth!.command, fifth!.payload.length]).toEqual([p.VFIO_USER_DEVICE_RESET, 0]);
  });

  test('overlaps, empty and overflowing ranges, and unmapping what is not mapped, are refused here', async () => {
    using at = await attach(device());
    const map = (iova: bigint, sizeBytes: number): Promise<void> => at.client.dmaMap({ iova, sizeBytes, readable: true, writable: true });
    await map(0x2000n, 0x1000);
    await map(0x1000n, 0x1000);
    await map(0x3000n, 0x1000);
    for (const [iova, size] of [[0x1800n, 0x1000], [0x2000n, 0x1000], [0n, 0x1001], [0x3fffn, 1], [0x9000n, 0], [(1n << 64n) - 1n, 2], [-1n, 1]] as const) {
      await expect(map(iova, size)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    }
    await expect(at.client.dmaUnmap(0x2000n, 0x800)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ARGUMENT' });
    await at.client.dmaUnmap(0x2000n, 0x1000);
    await map(0x2000n, 0x800);
  });

  test('a refused map can be tried again', async () => {
    let refuse = true;
    using at = await attach((frame, server) => (refuse ? server.refuse(frame, p.ENOSPC) : server.reply(frame)));
    const map = { iova: 0n, sizeBytes: 4096, readable: true, writable: true };
    await expect(at.client.dmaMap(map)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_REFUSED', errno: 28 });
    refuse = false;
    await at.client.dmaMap(map);
  });

  for (const dialect of ['lvu', 'qemu'] as const) {
    test(`DMA messages reach the handler within what is mapped and permitted (${dialect})`, async () => {
      const ram = new Uint8Array(0x2000);
      const dma: DmaHandler = {
        read: (iova, into) => into.set(ram.subarray(Number(iova), Number(iova) + into.length)),
        write: async (iova, from) => {
          await Promise.resolve();
          ram.set(from, Number(iova));
        },
      };
      const replies: Parameters<Handler>[0][] = [];
      let answered: () => void = () => {};
      using at = await attach((frame, server) => {
        if (!p.isReply(frame.flags)) return server.reply(frame);
        replies.push(frame);
        if (replies.length === 5) answered();
      }, { dma, dmaDialect: dialect });
      await at.client.dmaMap({ iova: 0n, sizeBytes: 0x1000, readable: true, writable: true });
      await at.client.dmaMap({ iova: 0x1000n, sizeBytes: 0x1000, readable: true, writable: false });
      const done = new Promise<void>((resolve) => (answered = resolve));
      const ask = (id: number, command: number, payload: Uint8Array): void => at.server.send(p.encodeMessage(id, command, 0, payload));
      ask(1, p.VFIO_USER_DMA_WRITE, p.encodeDmaWrite(0xff8n, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), dialect));
      ask(2, p.VFIO_USER_DMA_READ, p.encodeDmaRead({ address: 0xffcn, count: 8 }));
      ask(3, p.VFIO_USER_DMA_WRITE, p.encodeDmaWrite(0xffcn, new Uint8Array(8), dialect));
      ask(4, p.VFIO_USER_DMA_READ, p.encodeDmaRead({ address: 0x1ffcn, count: 8 }));
      ask(5, p.VFIO_USER_DEVICE_RESET, new Uint8Array(0));
      await done;
      expect(replies.map((frame) => [frame.id, p.replyErrno(frame)])).toEqual([[1, 0], [2, 0], [3, p.EACCES], [4, p.EFAULT], [5, p.ENOSYS]]);
      expect(p.decodeDmaWriteReply(replies[0]!.payload, dialect)).toEqual(dialect === 'qemu' ? undefined : { address: 0xff8n, count: 8 });
      expect(p.decodeDmaReadReply(replies[1]!.payload, dialect)).toEqual({ address: 0xffcn, count: 8, data: Uint8Array.of(5, 6, 7, 8, 0, 0, 0, 0) });
    });
  }
});
