import { linux } from '@emudev/linux';
import type { IoFd } from '@emudev/pci';
import { expect } from 'vitest';
import { concat, fields, u32 } from '../raw-client.ts';
import { EINVAL, IO_FDS, ioFds } from '../requests.ts';
import { IoFdDevice } from './devices.ts';
import { conformance, type Rig, type Row } from './suite.ts';

const NO_FD = 0xffffffff;
const [EVENTFD, SHADOW] = [0, 2];

/** A record as libvfio-user has it: 48 bytes whatever the type. */
const record = (offset: number, sizeBytes: number, fdIndex: number, type = EVENTFD, more: { flags?: number; memoryFdIndex?: number; memoryOffset?: bigint; datamatch?: bigint } = {}): Uint8Array =>
  fields(BigInt(offset), BigInt(sizeBytes), fdIndex, type, more.flags ?? 0, more.memoryFdIndex ?? 0, more.memoryOffset ?? 0n, more.datamatch ?? 0n);
const answer = (index: number, count: number, ...records: readonly Uint8Array[]): Uint8Array => concat(fields(16 + 48 * count, 0, index, count), ...records);
const eventfdAt = (offset: number, fd: number): IoFd => ({ kind: 'ioeventfd', offset, sizeBytes: 8, fd, flags: 0, datamatch: 0n });

const refused = (title: string, payload: Uint8Array): Row => ({ title: `${title}: EINVAL`, exchanges: [{ send: [IO_FDS, payload], reply: EINVAL }] });
const none = (title: string, index: number): Row => ({ title: `${title}: none, 16 bytes`, exchanges: [{ send: [IO_FDS, ioFds(index, 4096)], reply: fields(16, 0, index, 0) }] });

/** Creates what `make` lists, then asks with room for `room` records; `fds` of the reply are closed with the row. */
async function ask(rig: Rig, created: readonly IoFd[], room: number): Promise<{ payload: Uint8Array; fds: readonly number[] }> {
  (rig.device as IoFdDevice).created.push(...created);
  const reply = await rig.client.request(IO_FDS, ioFds(0, 16 + 48 * room));
  reply.fds.forEach((fd) => rig.own(fd));
  return reply;
}
const sixEventfds = (rig: Rig): IoFd[] => [0, 8, 16, 24, 32, 40].map((offset) => eventfdAt(offset, rig.eventfd()));
const withIoFds = (): { device: IoFdDevice } => ({ device: new IoFdDevice() });

conformance('io-fds', {
  F1: refused('flags 1', ioFds(0, 16, 1)),
  F2: refused('count 1', ioFds(0, 16, 0, 1)),
  F3: refused('argsz 15', ioFds(0, 15)),
  F4: refused('argsz above 1 MiB', ioFds(0, (1 << 20) + 1)),
  F5: none('a region without sub-regions', 0),
  F6: refused('a region that the device lacks', ioFds(4, 16)),
  F7: none('a region that cannot be mapped', 2),
  F8: refused('index 512', ioFds(512, 16)),
  F9: {
    title: 'six eventfds and room for ten: six descriptors, on which the device hears what is written',
    given: withIoFds,
    run: async (rig) => {
      const created = sixEventfds(rig);
      const { payload, fds } = await ask(rig, created, 10);
      expect([u32(payload, 0), u32(payload, 12), fds.length]).toEqual([16 + 6 * 48, 6, 6]);
      for (const fd of fds) for (let i = 0; i < 10; i++) linux.eventfdSignal(fd);
      expect(created.map(({ fd }) => linux.eventfdDrain(fd))).toEqual([10, 10, 10, 10, 10, 10]);
    },
  },
  F10: {
    title: 'room for exactly six: six records, the newest first',
    given: withIoFds,
    run: async (rig) => {
      const created = sixEventfds(rig);
      const { payload, fds } = await ask(rig, created, 6);
      expect(payload).toEqual(answer(0, 6, ...[40, 32, 24, 16, 8, 0].map((offset, i) => record(offset, 8, i))));
      linux.eventfdSignal(fds[0]!);
      expect(created.map(({ fd }) => linux.eventfdDrain(fd))).toEqual([0, 0, 0, 0, 0, 1]);
    },
  },
  F11: {
    title: 'argsz 16: what it would take, no record, no descriptor',
    given: withIoFds,
    run: async (rig) => { expect(await ask(rig, sixEventfds(rig), 0)).toMatchObject({ payload: answer(0, 6), fds: [] }); },
  },
  F12: {
    title: 'two more that share one descriptor: eight records, seven descriptors, the first two records name the same',
    given: withIoFds,
    run: async (rig) => {
      const shared = rig.eventfd();
      const { payload, fds } = await ask(rig, [...sixEventfds(rig), eventfdAt(48, shared), eventfdAt(56, shared)], 8);
      expect(payload).toEqual(answer(0, 8, record(56, 8, 0), record(48, 8, 0), ...[40, 32, 24, 16, 8, 0].map((offset, i) => record(offset, 8, i + 1))));
      expect(fds).toHaveLength(7);
    },
  },
  F13: {
    title: 'a sub-region beyond its region: EINVAL, no descriptor goes out',
    given: withIoFds,
    run: async (rig) => {
      (rig.device as IoFdDevice).created.push(eventfdAt(0xffc, rig.eventfd()));
      expect(await rig.client.request(IO_FDS, ioFds(0, 4096))).toMatchObject({ errno: EINVAL, size: 16, fds: [] });
    },
  },
  F14: {
    title: 'five sub-regions of which three have no descriptor: two go out, and the others say -1',
    given: withIoFds,
    run: async (rig) => {
      const [a, b] = [rig.eventfd(), rig.eventfd()];
      const { payload, fds } = await ask(rig, [b, -1, a, -1, a].map((fd, i) => eventfdAt(i * 8, fd)), 5);
      expect(payload).toEqual(answer(0, 5, record(32, 8, 0), record(24, 8, NO_FD), record(16, 8, 0), record(8, 8, NO_FD), record(0, 8, 1)));
      expect(fds).toHaveLength(2);
    },
  },
  F15: {
    title: 'a shadow ioeventfd: its eventfd, then its memory, and what is stored there the device sees',
    given: withIoFds,
    run: async (rig) => {
      const memory = rig.memfd(0x1000);
      const { payload, fds } = await ask(rig, [{ kind: 'shadow', offset: 8, sizeBytes: 0x16, fd: rig.eventfd(), flags: 0, datamatch: 0n, memoryFd: memory, memoryOffset: 0x10 }], 1);
      expect(payload).toEqual(answer(0, 1, record(8, 0x16, 0, SHADOW, { memoryFdIndex: 1, memoryOffset: 0x10n })));
      expect(fds).toHaveLength(2);
      linux.pwrite(fds[1]!, fields(0xfeed), 0x10);
      const seen = new Uint8Array(4);
      linux.pread(memory, seen, 0x10);
      expect(u32(seen, 0)).toBe(0xfeed);
    },
  },
  F16: refused('a payload below 16 bytes', new Uint8Array(8)),
});
