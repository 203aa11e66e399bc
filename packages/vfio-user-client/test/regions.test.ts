/** Region access beyond single reads and writes: several at once, registers by width, descriptors; and how a caller bounds a request. */
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attach } from './fake-server.ts';
import type { Handler } from './fake-server.ts';

let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

interface Write { readonly offset: number; readonly bytes: number[]; readonly posted: boolean; readonly message: number }

/** Remembers writes in the order of execution; `message` counts the messages they came in. */
function recorder(log: Write[], memory = new Uint8Array(256), failAt = -1): Handler {
  let message = 0;
  const write = ({ offset, data }: p.RegionData, posted: boolean): boolean => {
    if (offset === failAt) return false;
    memory.set(data, offset);
    log.push({ offset, bytes: [...data], posted, message });
    return true;
  };
  return (frame, server) => {
    message++;
    const posted = p.isPosted(frame.flags);
    if (frame.command === p.VFIO_USER_REGION_WRITE_MULTI) {
      const writes = p.decodeRegionWriteMulti(frame.payload);
      let done = 0;
      while (done < writes.length && write(writes[done]!, posted)) done++;
      if (!posted) server.reply(frame, p.encodeRegionWriteMultiReply(done));
    } else if (frame.command === p.VFIO_USER_REGION_WRITE) {
      const access = p.decodeRegionWrite(frame.payload, 64);
      const done = write(access, posted);
      if (posted) return;
      if (done) server.send(p.newRegionWriteReply(frame.id, access));
      else server.refuse(frame, p.EINVAL);
    } else {
      const access = p.decodeRegionRead(frame.payload, 64);
      const reply = p.newRegionReadReply(frame.id, access);
      reply.set(memory.subarray(access.offset, access.offset + access.count), p.REGION_DATA_AT);
      server.send(reply);
    }
  };
}

const entry = (offset: number, ...bytes: number[]): { region: number; offset: number; data: Uint8Array } => ({ region: 2, offset, data: Uint8Array.from(bytes) });

describe('several writes', () => {
  const writes = [entry(0, 1), entry(4, 2, 3), entry(8, 4), entry(12, ...new Array<number>(9).fill(5)), entry(24, 6), entry(28, 7)];
  const order = [[0, [1]], [4, [2, 3]], [8, [4]], [12, new Array(9).fill(5)], [24, [6]], [28, [7]]];

  test('in few messages where the server takes them, long ones by themselves, in order', async () => {
    const log: Write[] = [];
    // 64 bytes: two entries of 24 and the head.
    using at = await attach(recorder(log), {}, { writeMultiple: true });
    await at.client.regions.writeMulti(writes);
    expect(log.map((w) => [w.offset, w.bytes])).toEqual(order);
    expect(log.map((w) => w.message)).toEqual([1, 1, 2, 3, 4, 4]);
  });

  test('one by one where it does not', async () => {
    const log: Write[] = [];
    using at = await attach(recorder(log));
    await at.client.regions.writeMulti(writes);
    expect(log.map((w) => [w.offset, w.bytes])).toEqual(order);
    expect(at.server.seen.every((frame) => frame.command === p.VFIO_USER_REGION_WRITE)).toBe(true);
  });

  test.each([true, false])('posted (multiple: %s): in order with a read behind them', async (writeMultiple) => {
    const log: Write[] = [];
    using at = await attach(recorder(log), {}, { writeMultiple });
    const posted = at.client.regions.writeMulti(writes, { posted: true });
    await posted;
    expect(await at.client.regions.read8(2, 28)).toBe(7);
    expect(log.map((w) => [w.offset, w.posted])).toEqual(order.map(([offset]) => [offset, true]));
  });

  test.each([[true, 'ERR_VFU_CLIENT_SHORT'], [false, 'ERR_VFU_CLIENT_REFUSED']] as const)('one that fails is the last (multiple: %s)', async (writeMultiple, code) => {
    const log: Write[] = [];
    using at = await attach(recorder(log, undefined, 4), {}, { writeMultiple });
    await expect(at.client.regions.writeMulti(writes)).rejects.toMatchObject({ code });
    expect(log.map((w) => w.offset)).toEqual([0]);
  });
});

test('registers of every width, little endian', async () => {
  const memory = new Uint8Array(256);
  using at = await attach(recorder([], memory));
  const { regions } = at.client;
  await regions.write8(2, 0, 0x1ff);
  await regions.write16(2, 2, 0xabcd);
  await regions.write32(2, 4, 0xfedc_ba98);
  await regions.write64(2, 8, 0x8877_6655_4433_2211n);
  expect([...memory.subarray(0, 16)]).toEqual([0xff, 0, 0xcd, 0xab, 0x98, 0xba, 0xdc, 0xfe, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
  expect([await regions.read8(2, 0), await regions.read16(2, 2), await regions.read32(2, 4), await regions.read64(2, 8)]).toEqual([0xff, 0xabcd, 0xfedc_ba98, 0x8877_6655_4433_2211n]);
});

describe('descriptors of a region', () => {
  /** `records` of region 0, which has 4096 bytes. */
  const server = (records: readonly p.IoFdRecord[], fds: readonly number[], stride: p.IoFdStride = 48): Handler => (frame, self) => {
    if (frame.command === p.VFIO_USER_DEVICE_GET_REGION_INFO) return self.reply(frame, p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 4096, fileOffset: 0 }, 32).payload);
    const { argsz, index } = p.decodeGetRegionIoFds(frame.payload);
    const { payload, complete } = p.encodeRegionIoFds(index, records, argsz, stride);
    self.reply(frame, payload, complete ? fds : []);
  };
  const eventfd = (offset: number, fdIndex: number): p.IoFdRecord => ({ kind: 'ioeventfd', offset, sizeBytes: 4, fdIndex, flags: 1, datamatch: 7n });

  test('shared ones are resolved, and closed by whoever holds the result', async () => {
    const [a, b] = [linux.eventfd(), linux.memfdCreate('shadow', { allowSealing: true })];
    {
      using at = await attach(server([eventfd(0, 0), { kind: 'shadow', offset: 8, sizeBytes: 8, fdIndex: 0, flags: 0, datamatch: 0n, memoryFdIndex: 1, memoryOffset: 64 }, { kind: 'ioregionfd', offset: 16, sizeBytes: 16, fdIndex: -1, flags: 2, userData: 9n }], [a, b]));
      using io = await at.client.regions.ioFds(0);
      const [first, second, third] = io.entries;
      expect(first).toMatchObject({ kind: 'ioeventfd', offset: 0, sizeBytes: 4, flags: 1, datamatch: 7n });
      expect(second).toMatchObject({ kind: 'shadow', fd: first!.fd, memoryOffset: 64 });
      expect(third).toEqual({ kind: 'ioregionfd', offset: 16, sizeBytes: 16, fd: undefined, flags: 2, userData: 9n });
      linux.eventfdSignal(first!.fd!);
      expect(linux.eventfdDrain(a), 'it is the server\'s').toBe(1);
    }
    linux.close(a);
    linux.close(b);
  });

  test.each([40, 48] as const)('more than there was room for are asked for again (records of %s bytes)', async (stride) => {
    const fd = linux.eventfd();
    {
      using at = await attach(server(Array.from({ length: 40 }, (_, i) => eventfd(4 * i, 0)), [fd], stride));
      using io = await at.client.regions.ioFds(0);
      expect(io.entries).toHaveLength(40);
      const asked = at.server.seen.slice(1).map((frame) => p.decodeGetRegionIoFds(frame.payload).argsz);
      expect(asked).toEqual([16 + 16 * 48, 16 + 40 * stride]);
    }
    linux.close(fd);
  });

  test('none is an answer too', async () => {
    using at = await attach(server([], []));
    using io = await at.client.regions.ioFds(0);
    expect(io.entries).toEqual([]);
  });
});

describe('how long a caller waits', () => {
  test('a time-out of one request, shorter or longer than the client\'s', async () => {
    const held: p.Frame[] = [];
    using at = await attach((frame, server) => {
      held.push(frame);
      if (held.length === 2) for (const late of held) server.reply(late);
    }, { timeoutMs: 30 });
    await expect(at.client.reset({ timeoutMs: 5 })).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_TIMEOUT', message: expect.stringContaining('5 ms') as string });
    await at.client.reset({ timeoutMs: 10_000 });
  });

  test('an AbortSignal ends the wait with its reason; the late answer is dropped, with its descriptors', async () => {
    const held: p.Frame[] = [];
    using at = await attach((frame, server) => {
      if (held.push(frame) < 2) return;
      const fd = linux.eventfd();
      for (const late of held.splice(0)) server.reply(late, undefined, [fd]);
      linux.close(fd);
    });
    const abort = new AbortController();
    const given = at.client.reset({ signal: abort.signal });
    const why = new Error('enough');
    abort.abort(why);
    await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED', errno: 125, cause: why });
    await at.client.reset();
    await expect(at.client.reset({ signal: abort.signal }), 'nothing is sent').rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    expect(at.server.seen).toHaveLength(2);
  });

  test('giving up often is not held against the server', async () => {
    using at = await attach((frame, server) => { if (frame.command === p.VFIO_USER_DMA_MAP) server.reply(frame); });
    const abort = new AbortController();
    const all = Array.from({ length: 100 }, () => at.client.reset({ signal: abort.signal }));
    abort.abort();
    for (const result of await Promise.allSettled(all)) expect(result).toMatchObject({ reason: { code: 'ERR_VFU_CLIENT_ABORTED' } });
    await at.client.dmaMap({ iova: 0n, sizeBytes: 4096, readable: true, writable: true });
  });

  test('a posted write that has not left is taken back', async () => {
    const log: Write[] = [];
    let full = false;
    const sys = { ...linux, sendmsg: (fd: number, bytes: Uint8Array, fds: readonly number[]) => (full ? undefined : linux.sendmsg(fd, bytes, fds)) };
    using at = await attach(recorder(log), { sys });
    full = true;
    const abort = new AbortController();
    const kept = at.client.write(2, 0, Uint8Array.of(1), { posted: true });
    const given = at.client.write(2, 4, Uint8Array.of(2), { posted: true, signal: abort.signal });
    abort.abort();
    await expect(given).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_ABORTED' });
    full = false;
    await kept;
    await at.client.regions.read8(2, 0);
    expect(log.map((w) => w.offset)).toEqual([0]);
  });
});
