/** Messages as people read them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as p from '../src/index.ts';
import type { DescribeContext, MessageDescription } from '../src/index.ts';

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const header = (command: number, flags = 0, error = 0): p.Header => ({ id: 1, command, size: 0, flags, error });
const line = ({ name, fields, malformed }: MessageDescription): string =>
  `${name}(${fields.map((field) => `${field.name}=${field.value}`).join(', ')})${malformed === undefined ? '' : ` MALFORMED: ${malformed}`}`;
const request = (command: number, payload: Uint8Array, context?: DescribeContext): string => line(p.describeMessage(header(command), payload, context));
const reply = (command: number, payload: Uint8Array, context?: DescribeContext): string => line(p.describeMessage(header(command, 1), payload, context));
const version = (json: string): Uint8Array => Uint8Array.from([0, 0, 2, 0, ...new TextEncoder().encode(json), 0]);
const NONE = new Uint8Array(0);

/** A region info with so many capabilities that nobody knows. */
function chainOf(capabilities: number): Uint8Array {
  const words = [32 + 8 * capabilities, 8, 0, 32, 0, 0, 0, 0, ...Array.from({ length: capabilities }, (_, i) => [9, i === capabilities - 1 ? 0 : 40 + 8 * i]).flat()];
  return new Uint8Array(Uint32Array.from(words).buffer);
}

describe('requests', () => {
  test.each<[string, string]>([
    [request(1, version('{ "capabilities": { "max_msg_fds": 8 } }')), 'VERSION(major=0, minor=2, json={"capabilities":{"max_msg_fds":8}})'],
    [request(1, bytes('00000100')), 'VERSION(major=0, minor=1)'],
    [
      request(2, p.encodeDmaMap({ flags: 7, fdOffset: 0x1000n, address: 0x2000n, size: 0x3000n }), { fdCount: 1 }),
      'DMA_MAP(argsz=32, flags=READ|WRITE|MMAP, offset=0x1000, address=0x2000, size=0x3000, fds=1)',
    ],
    [request(3, p.encodeDmaUnmap({ flags: 2, address: 0n, size: 0n })), 'DMA_UNMAP(argsz=24, flags=ALL, address=0x0, size=0x0)'],
    [
      request(3, p.encodeDmaUnmap({ flags: 1, address: 0n, size: 0x10000n, bitmap: { pageSize: 4096n, bytes: 8n } })),
      'DMA_UNMAP(argsz=48, flags=GET_DIRTY_BITMAP, address=0x0, size=0x10000, page_size=0x1000, bitmap_size=0x8)',
    ],
    [request(4, p.encodeDeviceGetInfo()), 'DEVICE_GET_INFO(argsz=16)'],
    [request(5, p.encodeGetRegionInfo(7, 80)), 'DEVICE_GET_REGION_INFO(argsz=80, index=CONFIG)'],
    [request(5, bytes('30000000 00000000 09000000 00000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000')), 'DEVICE_GET_REGION_INFO(argsz=48, index=9, padding=16 zero bytes)'],
    [request(6, p.encodeGetRegionIoFds(0)), 'DEVICE_GET_REGION_IO_FDS(argsz=16, index=BAR0)'],
    [request(7, p.encodeGetIrqInfo(2)), 'DEVICE_GET_IRQ_INFO(argsz=16, index=MSIX)'],
    [request(8, p.encodeSetIrqs({ action: 'trigger', index: 0, start: 0, count: 1, data: 'eventfd' }), { fdCount: 1 }), 'DEVICE_SET_IRQS(argsz=20, flags=TRIGGER|EVENTFD, index=INTX, start=0, count=1, fds=1)'],
    [request(8, p.encodeSetIrqs({ action: 'mask', index: 4, start: 0, count: 3, data: Uint8Array.of(1, 0, 1) })), 'DEVICE_SET_IRQS(argsz=23, flags=MASK|BOOL, index=REQ, start=0, count=3, bools=010001)'],
    [request(9, p.encodeRegionRead({ offset: 4, region: 7, count: 2 })), 'REGION_READ(offset=0x4, region=CONFIG, count=2)'],
    [
      request(10, p.encodeRegionData(4, 7, Uint8Array.of(6, 4)), { registerName: (region, offset, length) => `${region}.${offset}.${length}` }),
      'REGION_WRITE(offset=0x4<7.4.2>, region=CONFIG, count=2, data=0x0406)',
    ],
    [request(10, p.encodeRegionData(0, 1, new Uint8Array(100).fill(0xab)), { maxDataBytes: 3 }), 'REGION_WRITE(offset=0x0, region=BAR1, count=100, data=ababab...)'],
    [request(11, p.encodeDmaRead({ address: 0x400n, count: 1024 })), 'DMA_READ(address=0x400, count=1024)'],
    [request(12, p.encodeDmaWrite(0x400n, Uint8Array.of(1, 2, 3, 4), 'lvu')), 'DMA_WRITE(address=0x400, count=4, data=0x04030201)'],
    [request(12, p.encodeDmaWrite(0x400n, Uint8Array.of(1, 2, 3, 4, 5), 'qemu')), 'DMA_WRITE(address=0x400, count=5, data=0102030405)'],
    [request(13, NONE), 'DEVICE_RESET()'],
    [request(15, p.encodeRegionWriteMulti([{ offset: 8, region: 1, data: Uint8Array.of(0xaa, 0xbb) }])), 'REGION_WRITE_MULTI(wr_cnt=1, write[0]=BAR1+0x8 = 0xbbaa)'],
    [request(16, bytes('10000000 02000200 06000000 ffffffff')), 'DEVICE_FEATURE(argsz=16, flags=SET, feature=MIG_DEVICE_STATE, state=PRE_COPY, data_fd=-1)'],
    [request(16, bytes('08000000 06000400')), 'DEVICE_FEATURE(argsz=8, flags=PROBE, feature=DMA_LOGGING_START)'],
    [
      request(16, p.encodeDeviceFeature(6, p.VFIO_DEVICE_FEATURE_SET, p.encodeDmaLogging({ pageSize: 4096n, ranges: [{ iova: 0x1000n, length: 0x2000n }] }))),
      'DEVICE_FEATURE(argsz=40, flags=SET, feature=DMA_LOGGING_START, page_size=0x1000, num_ranges=1, range[0]=0x1000+0x2000)',
    ],
    [request(17, p.encodeMigDataRead(1024)), 'MIG_DATA_READ(argsz=1032, size=1024)'],
    [request(18, p.encodeMigDataWrite(Uint8Array.of(1, 2, 3))), 'MIG_DATA_WRITE(argsz=11, size=3, data=010203)'],
  ])('%s', (got, want) => expect(got).toBe(want));
});

describe('replies', () => {
  const areas = [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x2000, sizeBytes: 0x1000 }];
  test.each<[string, string]>([
    [reply(4, bytes('10000000 03000000 09000000 05000000')), 'DEVICE_GET_INFO(argsz=16, flags=RESET|PCI, num_regions=9, num_irqs=5)'],
    [
      reply(5, p.encodeRegionInfo({ flags: 7, index: 1, sizeBytes: 0x3000, fileOffset: 0, areas, type: { type: 1, subtype: 2 }, msixMappable: true }, 4096).payload, { fdCount: 1 }),
      'DEVICE_GET_REGION_INFO(argsz=104, flags=READ|WRITE|MMAP|CAPS, index=BAR1, cap_offset=32, size=0x3000, offset=0x0, sparse_mmap=2 areas, area[0]=0x0+0x1000, area[1]=0x2000+0x1000, type=0x1, subtype=0x2, msix_mappable=yes, fds=1)',
    ],
    [
      reply(6, p.encodeRegionIoFds(0, [
        { kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 1, datamatch: 5n },
        { kind: 'ioregionfd', offset: 16, sizeBytes: 8, fdIndex: -1, flags: 2, userData: 7n },
        { kind: 'shadow', offset: 24, sizeBytes: 4, fdIndex: 1, flags: 0, datamatch: 0n, memoryFdIndex: 2, memoryOffset: 16 },
      ], 4096).payload),
      'DEVICE_GET_REGION_IO_FDS(argsz=160, index=BAR0, count=3, subregion[0]=ioeventfd 0x8+0x4 fd[0] DATAMATCH datamatch 0x5, subregion[1]=ioregionfd 0x10+0x8 fd[-1] POSTED_WRITES user_data 0x7, subregion[2]=shadow 0x18+0x4 fd[1] 0 memory fd[2]+0x10 datamatch 0x0)',
    ],
    [
      reply(6, p.encodeRegionIoFds(0, [{ kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 0, datamatch: 5n }], 4096, 40).payload),
      'DEVICE_GET_REGION_IO_FDS(argsz=56, index=BAR0, count=1, subregion[0]=ioeventfd 0x8+0x4 fd[0] 0 datamatch 0x5)',
    ],
    [reply(7, bytes('10000000 07000000 00000000 01000000')), 'DEVICE_GET_IRQ_INFO(argsz=16, flags=EVENTFD|MASKABLE|AUTOMASKED, index=INTX, count=1)'],
    [reply(9, bytes('0000000000000000 07000000 04000000 86808918')), 'REGION_READ(offset=0x0, region=CONFIG, count=4, data=0x18898086)'],
    [reply(9, NONE), 'REGION_READ()'],
    [reply(10, NONE), 'REGION_WRITE()'],
    [reply(10, bytes('0000000000000000 07000000 04000000')), 'REGION_WRITE(offset=0x0, region=CONFIG, count=4)'],
    [reply(11, p.encodeDmaReadReply(0x400n, Uint8Array.of(1, 2, 3, 4), 'lvu')), 'DMA_READ(address=0x400, count=4, data=0x04030201)'],
    [reply(11, p.encodeDmaReadReply(0x400n, Uint8Array.of(1, 2, 3, 4), 'qemu')), 'DMA_READ(address=0x400, count=4, data=0x04030201, padding=4 zero bytes)'],
    [reply(12, bytes('0004000000000000 0004000000000000')), 'DMA_WRITE(address=0x400, count=1024)'],
    [reply(12, bytes('0004000000000000 00040000')), 'DMA_WRITE(address=0x400, count=1024)'],
    [reply(12, NONE), 'DMA_WRITE()'],
    [reply(2, NONE), 'DMA_MAP()'],
    [
      reply(3, p.encodeDmaUnmapReply({ argsz: 48, flags: 1, address: 0n, size: 0x10000n, bitmap: { pageSize: 4096n, bytes: 8n } }, Uint8Array.of(0xff, 1, 0, 0, 0, 0, 0, 0))),
      'DMA_UNMAP(argsz=48, flags=GET_DIRTY_BITMAP, address=0x0, size=0x10000, page_size=0x1000, bitmap_size=0x8, dirty=9 of 64 bits set)',
    ],
    [reply(16, bytes('10000000 01000100 0500000000000000')), 'DEVICE_FEATURE(argsz=16, flags=GET, feature=MIGRATION, migration=STOP_COPY|PRE_COPY)'],
    [
      reply(16, p.encodeDeviceFeature(8, p.VFIO_DEVICE_FEATURE_GET, p.encodeDmaLoggingReport({ iova: 0x1000n, length: 0x4000n, pageSize: 4096n }, Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0)))),
      'DEVICE_FEATURE(argsz=40, flags=GET, feature=DMA_LOGGING_REPORT, iova=0x1000, length=0x4000, page_size=0x1000, dirty=2 of 64 bits set)',
    ],
    [reply(17, p.encodeMigDataReadReply(Uint8Array.of(1, 2, 3), 6)), 'MIG_DATA_READ(argsz=11, size=3, data=010203, padding=3 zero bytes)'],
  ])('%s', (got, want) => expect(got).toBe(want));

  test('errors are named, and what some servers put behind them is shown', () => {
    expect(line(p.describeMessage(header(9, 0x21, 22), NONE))).toBe('REGION_READ(error=EINVAL)');
    expect(line(p.describeMessage(header(9, 0x21, 4000), bytes('00010000')))).toBe('REGION_READ(error=4000, rest=00010000)');
    expect([1, 38, 41, 71, 95, 107, 110, 133].map(p.errnoName)).toEqual(['EPERM', 'ENOSYS', '41', 'EPROTO', 'EOPNOTSUPP', 'ENOTCONN', 'ETIMEDOUT', 'EHWPOISON']);
  });
});

describe('what is not right', () => {
  test.each<[string, string]>([
    [request(9, bytes('0000000000000000 0700')), 'REGION_READ(rest=0700) MALFORMED: the payload of 10 bytes ends before region, which has 4 bytes at 8'],
    [request(10, bytes('0000000000000000 07000000 04000000 01')), 'REGION_WRITE(offset=0x0, region=CONFIG, count=4, data=0x01) MALFORMED: 1 bytes of data, 4 are announced'],
    [request(2, bytes('20000000 00010010')), 'DMA_MAP(argsz=32, flags=0x10000100) MALFORMED: the payload of 8 bytes ends before offset, which has 8 bytes at 8'],
    [request(2, p.encodeDmaMap({ flags: 0x8000_0003, fdOffset: 0n, address: 0n, size: 0n })), 'DMA_MAP(argsz=32, flags=READ|WRITE|0x80000000, offset=0x0, address=0x0, size=0x0)'],
    [request(15, bytes('0200000000000000 0000000000000000 00000000 01000000 aa00000000000000')), 'REGION_WRITE_MULTI(wr_cnt=2, write[0]=BAR0+0x0 = 0xaa) MALFORMED: 1 writes, 2 are announced'],
    [reply(5, chainOf(17)), `DEVICE_GET_REGION_INFO(argsz=168, flags=CAPS, index=BAR0, cap_offset=32, size=0x0, offset=0x0, ${'capability=id 9, version 0, '.repeat(16).slice(0, -2)}, rest=0900000000000000) MALFORMED: more than 16 capabilities`],
    [request(99, bytes('010203')), 'command 99(rest=010203) MALFORMED: an unknown command'],
    [line(p.describeMessage(header(9, 5), NONE)), 'REGION_READ() MALFORMED: type 5 is reserved'],
    [reply(9, NONE, { request: { command: 4, payload: NONE } }), 'REGION_READ() MALFORMED: a reply to DEVICE_GET_INFO'],
    [request(1, bytes('00000200 7b')), 'VERSION(major=0, minor=2, json="{") MALFORMED: JSON without a terminating NUL'],
    [request(1, version('{')), 'VERSION(major=0, minor=2, json="{") MALFORMED: malformed JSON'],
    // A chain that points back to itself.
    [reply(5, bytes('30000000 08000000 00000000 20000000 0010000000000000 0000000000000000 0300 0100 20000000')), 'DEVICE_GET_REGION_INFO(argsz=48, flags=CAPS, index=BAR0, cap_offset=32, size=0x1000, offset=0x0, msix_mappable=yes) MALFORMED: a capability at 32, before 40'],
  ])('%s', (got, want) => expect(got).toBe(want));

  test('a peer cannot move the cursor of a terminal', () => {
    expect(request(1, version('"\\u001b[2J\u009b1m\u202e"'))).toBe('VERSION(major=0, minor=2, json="\\u001b[2J\\u009b1m\\u202e")');
    expect(request(1, version('\u001b[2J'))).toBe('VERSION(major=0, minor=2, json="\\u001b[2J") MALFORMED: malformed JSON');
  });

  test('long lists are cut', () => {
    const writes = Array.from({ length: 20 }, () => ({ offset: 0, region: 0, data: Uint8Array.of(1) }));
    expect(request(15, p.encodeRegionWriteMulti(writes), { maxListed: 1 })).toBe('REGION_WRITE_MULTI(wr_cnt=20, write[0]=BAR0+0x0 = 0x01, more=19 writes)');
  });
});

test('whatever the bytes: never an exception, always printable, never read past the end', () => {
  const word = fc.constantFrom(0, 1, 2, 3, 4, 8, 16, 24, 32, 40, 48, 0x10001, 0x20002, 0x20006, 0x10008, 0xffff_ffff);
  const plausible = fc.array(word, { maxLength: 40 }).map((words) => new Uint8Array(Uint32Array.from(words).buffer));
  fc.assert(fc.property(
    fc.nat(20), fc.oneof(fc.constantFrom(0, 1, 0x10, 0x21), fc.nat(0xff)), fc.nat(5000), fc.oneof(fc.uint8Array({ maxLength: 120 }), plausible), fc.constantFrom<p.DmaDialect | undefined>(undefined, 'lvu', 'qemu'),
    (command, flags, error, payload, dmaDialect) => {
      const run = (canary: number): MessageDescription => {
        const room = new Uint8Array(payload.length + 64).fill(canary);
        room.set(payload, 32);
        return p.describeMessage(header(command, flags, error), room.subarray(32, 32 + payload.length), dmaDialect === undefined ? {} : { dmaDialect });
      };
      expect(run(0)).toEqual(run(0xff));
      expect(line(run(0))).toMatch(/^[ -~]*$/);
    },
  ), { numRuns: 3000 });
});
