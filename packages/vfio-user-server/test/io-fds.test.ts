/** What becomes of a device's ioeventfds where its list, or the client, is unusual; the rest is in conformance/. */
import { linux } from '@emudev/linux';
import type { IoFd } from '@emudev/pci';
import { decodeRegionIoFds, encodeGetRegionIoFds } from '@emudev/vfio-user-protocol';
import { afterEach, describe, expect, it } from 'vitest';
import { FakeDevice, nextEvent, serve } from './fixture.ts';
import { LVU_VERSION, version } from './raw-client.ts';

const IO_FDS = 6;
const EINVAL = 22;

class WithIoFds extends FakeDevice {
  list: readonly IoFd[] = [];
  ioFds(): readonly IoFd[] {
    return this.list;
  }
}

const opened: number[] = [];
afterEach(() => {
  for (const fd of opened.splice(0)) linux.close(fd);
});
const eventfd = (): number => {
  opened.push(linux.eventfd());
  return opened.at(-1)!;
};
const plain = (offset: number, fd: number): IoFd => ({ kind: 'ioeventfd', offset, sizeBytes: 4, fd, flags: 0, datamatch: 0n });

describe('DEVICE_GET_REGION_IO_FDS', () => {
  it('a client that takes few descriptors gets the newest that fit; an event tells of the others', async () => {
    const device = new WithIoFds();
    const [a, b, c] = [eventfd(), eventfd(), eventfd()];
    device.list = [plain(0, a), plain(4, b), { kind: 'shadow', offset: 8, sizeBytes: 4, fd: a, flags: 0, datamatch: 0n, memoryFd: c, memoryOffset: 0 }, plain(12, b), plain(16, -1)];
    await using s = await serve({ device, version: version('{"capabilities":{"max_msg_fds":2}}') });
    const fault = nextEvent('fault');
    const reply = await s.client.request(IO_FDS, encodeGetRegionIoFds(0, 4096));
    opened.push(...reply.fds);
    const { count, argsz, records } = decodeRegionIoFds(reply.payload, reply.fds.length);
    // 16 has none, 12 has b; the shadow would need two more; 4 has b; a is the second.
    expect(records.map(({ offset, fdIndex }) => [offset, fdIndex])).toEqual([[16, -1], [12, 0], [4, 0], [0, 1]]);
    expect([count, argsz, reply.fds.length]).toEqual([4, 16 + 4 * 48, 2]);
    expect(await fault).toMatchObject({ what: expect.stringMatching(/^1 sub-regions left out: .* 2 descriptors/) as unknown });
  });

  it('ioregionfds carry their user data, the same descriptor once', async () => {
    const device = new WithIoFds();
    const fd = eventfd();
    device.list = [{ kind: 'ioregionfd', offset: 0, sizeBytes: 8, fd, flags: 2, userData: 0x1122334455667788n }, plain(8, fd)];
    await using s = await serve({ device });
    const reply = await s.client.request(IO_FDS, encodeGetRegionIoFds(0, 4096));
    opened.push(...reply.fds);
    expect(decodeRegionIoFds(reply.payload, reply.fds.length).records).toEqual([
      { kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 0n },
      { kind: 'ioregionfd', offset: 0, sizeBytes: 8, fdIndex: 0, flags: 2, userData: 0x1122334455667788n },
    ]);
    expect(reply.fds).toHaveLength(1);
  });

  it.each<[string, () => IoFd[]]>([
    ['beyond the region', () => [plain(0xffd, eventfd())]],
    ['at a negative offset', () => [plain(-4, eventfd())]],
    ['of a size that is no number', () => [{ ...plain(0, eventfd()), sizeBytes: NaN }]],
    ['with a descriptor below none', () => [plain(0, -2)]],
    ['more than there can be', () => Array.from({ length: 1025 }, () => plain(0, -1))],
  ])('a device that lists one %s: EINVAL, no descriptor sent, the session goes on', async (_name, list) => {
    const device = new WithIoFds();
    await using s = await serve({ device, version: LVU_VERSION });
    device.list = list();
    const reply = await s.client.request(IO_FDS, encodeGetRegionIoFds(0, 65536));
    expect([reply.errno, reply.fds]).toEqual([EINVAL, []]);
    device.list = [];
    expect(await s.client.errno(IO_FDS, encodeGetRegionIoFds(0, 16))).toBe(0);
  });
});
