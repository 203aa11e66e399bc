import { countOpenFds, linux } from '@emudev/linux';
import { REGION_BAR0, REGION_BAR3, REGION_CONFIG } from '@emudev/pci';
import { ADMIN_DESCRIPTOR_BYTES } from '@emudev/virtchnl';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ATTR_LINK, ATTR_MAC, ATTR_QUEUE_PAIRS, ATTR_RESET_STATE, REGION_DOORBELLS, rxQueueId, txQueueId } from '../src/contract.ts';
import { REGISTERS } from '../src/register-table.ts';
import { EchoBackEnd, MAC, Mailbox, RAM_BYTES, RAM_IOVA, Rig, offsetOf, settle } from './rig.ts';

const dword = (rig: Rig, offset: number): number => new DataView(rig.readBytes(REGION_CONFIG, offset, 4).buffer).getUint32(0, true);

describe('configuration space', () => {
  it('is the one of an E810 virtual function, iavf.md 1.3', async () => {
    await using rig = await Rig.create({ bare: true });
    const expected: [number, number][] = [
      [0x00, 0x18898086], [0x04, 0x00100000], [0x08, 0x02000002], [0x0c, 0], [0x10, 0x0c], [0x14, 0], [0x18, 0], [0x1c, 0x0c], [0x20, 0], [0x24, 0],
      [0x2c, 0x00008086], [0x34, 0x70], [0x3c, 0], [0x70, (4 << 16) | 0xa011], [0x74, 3], [0x78, 0x1003], [0xa0, 0x00020010],
    ];
    for (const [offset, value] of expected) expect([offset, dword(rig, offset)]).toEqual([offset, value]);
    expect(dword(rig, 0xa4) & 0x1000_0000).not.toBe(0);
    void rig.device.write(REGION_CONFIG, 0x10, new Uint8Array(8).fill(0xff));
    void rig.device.write(REGION_CONFIG, 0x1c, new Uint8Array(8).fill(0xff));
    expect([dword(rig, 0x10), dword(rig, 0x14), dword(rig, 0x1c), dword(rig, 0x20)]).toEqual([0xffff000c, 0xffffffff, 0xffffc00c, 0xffffffff]);
  });

  it('offers the doorbell pages for mapping, or nothing, and one MSI-X vector more than queue pairs', async () => {
    await using mapped = await Rig.create({ bare: true, maxQueuePairs: 16 });
    expect(mapped.device.regions.find((region) => region.index === REGION_BAR0)?.mmap?.areas).toEqual([{ offset: 0, sizeBytes: 4096 }, { offset: 0x2000, sizeBytes: 8192 }]);
    expect(mapped.device.irqs).toEqual([{ index: 2, count: 17, flags: 1 }, { index: 3, count: 1, flags: 1 }]);
    await using trapped = await Rig.create({ bare: true, doorbell: 'trap' });
    expect(trapped.device.regions.find((region) => region.index === REGION_BAR0)?.mmap).toBeUndefined();
    expect(trapped.device.regions.find((region) => region.index === REGION_BAR3)).toEqual({ index: 3, sizeBytes: 0x4000, readable: true, writable: true });
  });
});

describe('the register table', () => {
  it('has no overlaps, and lies inside BAR0 with mapped registers in the doorbell pages only', () => {
    const taken = new Set<number>();
    for (const { offset, count, mapped } of REGISTERS) {
      for (let i = 0; i < count; i++) {
        const at = offset + 4 * i;
        expect(taken.has(at)).toBe(false);
        taken.add(at);
        expect(mapped === true).toBe(at < 0x1000 || (at >= 0x2000 && at < 0x4000));
      }
    }
    expect(Math.max(...taken)).toBe(0xd03c);
  });
});

describe('doorbells', () => {
  it('a store through the mapped file and a trapped write reach the same word', async () => {
    await using rig = await Rig.create();
    const { backing } = rig.device.regions[0]!.mmap!;
    const tx = rig.emudev.doorbell(txQueueId(3));
    const rx = rig.emudev.doorbell(rxQueueId(1));
    if (tx.kind !== 'mem' || rx.kind !== 'mem') throw new Error('expected memory doorbells');
    linux.pwrite(backing.fd, Uint8Array.of(9, 1, 0, 0), offsetOf('QTX_TAIL1', 3));
    expect(rig.window.u32[tx.offset >>> 2]).toBe(0x109);
    expect(rig.read('QTX_TAIL1', 3)).toBe(0x109);
    rig.write('QRX_TAIL1', 511, 1);
    expect(rig.window.u32[rx.offset >>> 2]).toBe(511);
    const region = rig.emudev.mapRegion(REGION_DOORBELLS);
    expect([tx.offset - region.offset, rx.offset - region.offset]).toEqual([12, 0x2004]);
  });

  it('in trap mode a write wakes a sleeper on the word, and the back end is told that it does', async () => {
    await using rig = await Rig.create({ doorbell: 'trap' });
    const doorbell = rig.emudev.doorbell(txQueueId(0));
    if (doorbell.kind !== 'mem') throw new Error('expected a memory doorbell');
    expect(doorbell.trapped).toBe(true);
    const woken = Atomics.waitAsync(rig.window.i32, doorbell.offset >>> 2, 0);
    rig.write('QTX_TAIL1', 4, 0);
    expect(await woken.value).toBe('ok');
  });

  it('a consumer cannot resize the file behind them', async () => {
    await using rig = await Rig.create();
    const { backing } = rig.device.regions[0]!.mmap!;
    expect(() => { linux.ftruncate(backing.fd, 0); }).toThrowError(expect.objectContaining({ code: 'EPERM' }));
  });

  it('a reset clears what a guest stored beside the registers as well', async () => {
    await using rig = await Rig.create();
    const { backing } = rig.device.regions[0]!.mmap!;
    linux.pwrite(backing.fd, new Uint8Array(8192).fill(0xff), 0);
    linux.pwrite(backing.fd, new Uint8Array(4096).fill(0xff), 0x2000);
    await rig.device.reset();
    const left = new Uint8Array(4096);
    for (const page of [0, 0x2000]) {
      linux.pread(backing.fd, left, page);
      expect(left).toEqual(new Uint8Array(4096));
    }
  });
});

describe('what a back end sees', () => {
  it('queues, vectors and doorbells of the granted shape, EMUDEV_RANGE beyond', async () => {
    await using rig = await Rig.create();
    expect(rig.emudev.info).toMatchObject({ devType: 'iavf', contractVersion: 1, maxQueuePairs: 4, numVectors: 5 });
    expect(rig.emudev.queueInfo(txQueueId(3))).toEqual({ base: 0n, size: 0, doorbellId: 8, irqVector: 4 });
    expect(rig.emudev.queueInfo(rxQueueId(0))).toMatchObject({ doorbellId: 3, irqVector: 1 });
    expect(rig.emudev.irqInfo(4).fd).toBe(rig.vectors[4]!.fd);
    for (const call of [() => rig.emudev.queueInfo(10), () => rig.emudev.queueInfo(0), () => rig.emudev.irqInfo(5), () => rig.emudev.irqInfo(-1), () => rig.emudev.doorbell(1)]) {
      expect(call).toThrowError(expect.objectContaining({ code: 'EMUDEV_RANGE' }));
    }
    expect(rig.emudev.memTable()).toBe(rig.space);
  });

  it('attributes are snapshots and refuse nonsense', async () => {
    await using rig = await Rig.create({ bare: true });
    const mac = rig.emudev.getAttr(ATTR_MAC);
    mac[5] = 0;
    expect(rig.emudev.getAttr(ATTR_MAC)).toEqual(MAC);
    for (const bad of [new Uint8Array(5), Uint8Array.of(1, 0, 0, 0, 0, 0), 'x']) {
      expect(() => { rig.emudev.setAttr(ATTR_MAC, bad as Uint8Array); }).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    }
    expect(() => { rig.emudev.setAttr(ATTR_QUEUE_PAIRS, 5); }).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    expect(() => { rig.emudev.setAttr(ATTR_LINK, { up: true } as never); }).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    expect(() => { rig.emudev.setAttr(ATTR_RESET_STATE, 0); }).toThrowError(expect.objectContaining({ code: 'EMUDEV_UNSUPPORTED' }));
    expect(rig.emudev.getAttr(ATTR_RESET_STATE)).toBe(2);
  });

  it('attributes are read and written as text', async () => {
    await using rig = await Rig.create({ bare: true });
    const { emudev } = rig;
    expect(emudev.attrNames().map((name) => emudev.getAttrText(name))).toEqual(['52:54:00:12:34:56', '{"up":false,"speedMbps":10000}', '4', '2']);
    emudev.setAttrText('mac', '52:54:00:00:00:01');
    expect(emudev.getAttr(ATTR_MAC)).toEqual(Uint8Array.of(0x52, 0x54, 0, 0, 0, 1));
    emudev.setAttrText('link', '{"up":true,"speedMbps":25000}');
    expect(emudev.getAttr(ATTR_LINK)).toEqual({ up: true, speedMbps: 25_000 });
    for (const [name, text] of [['mac', '53:54:00:00:00:01'], ['link', '{"up":1}'], ['queuePairs', '5'], ['queuePairs', 'four']] as const) {
      expect(() => { emudev.setAttrText(name, text); }).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    }
    expect(emudev.getAttrText('mac')).toBe('52:54:00:00:00:01');
  });

  it('the self-test asks everything a back end may ask, with a consumer and without', async () => {
    await using rig = await Rig.create();
    const report = await rig.emudev.selfTest();
    expect(report.checks.filter((check) => !check.passed)).toEqual([]);
    expect(report.checks.map((check) => check.name)).toEqual(['attributes', 'regions', 'vectors', 'queues', 'memory table', 'doorbells', 'mailbox']);
  });

  it('configure sets the granted pairs', async () => {
    await using rig = await Rig.create({ bare: true });
    await rig.emudev.configure({ queuePairs: 2 });
    expect(rig.emudev.getAttr(ATTR_QUEUE_PAIRS)).toBe(2);
  });
});

describe('hostile guests and consumers', () => {
  it('any access to any region, of any width, neither throws nor reaches past its bytes', async () => {
    await using rig = await Rig.create();
    new EchoBackEnd(rig);
    await settle();
    const sizes = { [REGION_BAR0]: 0x10000, [REGION_BAR3]: 0x4000, [REGION_CONFIG]: 4096 };
    const access = fc.record({
      region: fc.constantFrom(REGION_BAR0, REGION_BAR0, REGION_BAR0, REGION_BAR3, REGION_CONFIG),
      // Mostly where registers are.
      at: fc.oneof(fc.constantFrom(...REGISTERS.map((spec) => spec.offset)), fc.nat(0xffff)),
      bytes: fc.oneof(fc.uint8Array({ maxLength: 8 }), fc.uint8Array({ maxLength: 64 })),
      write: fc.boolean(),
    });
    const guard = rig.window.alloc(64);
    await fc.assert(fc.asyncProperty(fc.array(access, { maxLength: 30 }), async (accesses) => {
      for (const { region, at, bytes, write } of accesses) {
        const offset = Math.min(at, sizes[region as keyof typeof sizes] - bytes.length);
        const outer = new Uint8Array(bytes.length + 2).fill(0xaa);
        if (write) await rig.device.write(region, offset, bytes);
        else rig.device.read(region, offset, outer.subarray(1, 1 + bytes.length));
        expect([outer[0], outer[bytes.length + 1]]).toEqual([0xaa, 0xaa]);
      }
    }), { numRuns: 200 });
    expect(rig.window.u8.subarray(guard, guard + 64)).toEqual(new Uint8Array(64));
    expect(rig.errors).toEqual([]);
    rig.window.free(guard);
    await rig.device.reset();
    await rig.busMaster(true);
    const mailbox = new Mailbox(rig).init();
    mailbox.send(1);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('a narrow write changes its bytes of a register, a narrow read gets its', async () => {
    await using rig = await Rig.create();
    rig.write('VF_ATQBAL1', 0x11223344);
    void rig.device.write(REGION_BAR0, offsetOf('VF_ATQBAL1') + 1, Uint8Array.of(0xaa));
    expect(rig.read('VF_ATQBAL1')).toBe(0x1122aa44);
    expect(rig.readBytes(REGION_BAR0, offsetOf('VF_ATQBAL1') + 2, 2)).toEqual(Uint8Array.of(0x22, 0x11));
    void rig.device.write(REGION_BAR0, offsetOf('VFQF_HKEY'), Uint8Array.from({ length: 8 }, (_, i) => i + 1));
    expect([rig.read('VFQF_HKEY', 0), rig.read('VFQF_HKEY', 1)]).toEqual([0x04030201, 0x08070605]);
  });

  it('rings of random descriptors at random addresses are survived, and the card works afterwards', async () => {
    await using rig = await Rig.create();
    const backEnd = new EchoBackEnd(rig);
    await settle();
    const address = fc.oneof(fc.constantFrom(RAM_IOVA, RAM_IOVA + 0x8000n, RAM_IOVA + BigInt(RAM_BYTES) - 16n, 0n, (1n << 64n) - 32n), fc.bigInt(0n, (1n << 64n) - 1n));
    const queue = fc.record({ base: address, length: fc.oneof(fc.constantFrom(32, 256), fc.nat(1023)), tail: fc.nat(1100), head: fc.nat(1100) });
    const descriptor = fc.uint8Array({ minLength: ADMIN_DESCRIPTOR_BYTES, maxLength: ADMIN_DESCRIPTOR_BYTES }).map((bytes) => {
      // Half of them what a driver would send, so that the random rest of the fields is looked at.
      if ((bytes[31]! & 1) === 0) new DataView(bytes.buffer).setUint16(2, 0x0801, true);
      return bytes;
    });
    await fc.assert(fc.asyncProperty(queue, queue, fc.array(descriptor, { minLength: 1, maxLength: 40 }), async (atq, arq, descriptors) => {
      for (const [i, bytes] of descriptors.entries()) {
        rig.setRam(i * ADMIN_DESCRIPTOR_BYTES, bytes);
        rig.setRam(0x8000 + i * ADMIN_DESCRIPTOR_BYTES, bytes);
      }
      for (const [prefix, ring] of [['VF_ARQ', arq], ['VF_ATQ', atq]] as const) {
        rig.write(`${prefix}LEN1`, 0);
        rig.write(`${prefix}H1`, ring.head);
        rig.write(`${prefix}LEN1`, ring.length | 0x8000_0000);
        rig.write(`${prefix}BAL1`, Number(ring.base & 0xffffffffn));
        rig.write(`${prefix}BAH1`, Number(ring.base >> 32n));
        rig.write(`${prefix}T1`, ring.tail);
      }
      await settle();
      for (const name of ['VF_ATQH1', 'VF_ARQH1'] as const) expect(rig.read(name)).toBeLessThan(1024);
    }), { numRuns: 150 });
    expect(rig.errors).toEqual([]);
    backEnd.requests.length = 0;
    rig.write('VF_ATQLEN1', 0);
    rig.write('VF_ARQLEN1', 0);
    await settle();
    const mailbox = new Mailbox(rig).init();
    mailbox.send(1);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('100 consumers and 100 cards leave no descriptor, no mapping and no window memory behind', async () => {
    const cycle = async (): Promise<void> => {
      await using rig = await Rig.create();
      const backEnd = new EchoBackEnd(rig);
      await settle();
      new Mailbox(rig).init().send(1);
      await backEnd.attachment[Symbol.asyncDispose]();
    };
    await using keep = await Rig.create({ bare: true });
    await cycle();
    const held = (): object => ({ fds: countOpenFds(), window: keep.window.allocatedBytes, files: keep.window.mappingCount });
    const before = held();
    for (let i = 0; i < 100; i++) await cycle();
    expect(held()).toEqual(before);
  });
});
