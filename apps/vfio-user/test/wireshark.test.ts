import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as p from '@emudev/vfio-user-protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { captureHeader, captureMessage, captureStart } from '../src/pcapng/capture.ts';
import { interfaceBlock, packetBlock, sectionHeaderBlock } from '../src/pcapng/blocks.ts';
import type { ObservedMessage, Side } from '../src/trace/observed.ts';
import { temporaryFolder } from './wire.ts';

const DISSECTOR = new URL('../wireshark/vfio-user.lua', import.meta.url).pathname;

function tshark(file: Uint8Array, ...args: string[]): string {
  using folder = temporaryFolder();
  const path = join(folder.path, 'x.pcapng');
  writeFileSync(path, file);
  return execFileSync('tshark', ['-X', `lua_script:${DISSECTOR}`, '-r', path, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 1 << 28 });
}

type Sent = readonly [from: Side, bytes: Uint8Array, fds?: ObservedMessage['fds']];

function capture(messages: readonly Sent[]): Uint8Array {
  return Buffer.concat([...captureStart('a', 'b'), ...messages.map(([from, bytes, fds = []], i) =>
    captureMessage({ atMs: i * 0.5, session: 1, channel: 'main', from, framing: 'whole', bytes, size: bytes.length, fds }, 1.7e12))]);
}

/** The named fields of every packet: all occurrences, as tshark prints them. */
function fieldsOf(file: Uint8Array, names: readonly string[]): string[][][] {
  const lines = tshark(file, '-2', '-T', 'fields', '-E', 'occurrence=a', '-E', 'aggregator=|', ...names.flatMap((name) => ['-e', `vfio_user.${name}`])).replace(/\n$/, '').split('\n');
  return lines.map((line) => line.split('\t').map((value) => (value === '' ? [] : value.split('|'))));
}

const request = (command: number, payload: Uint8Array, flags = 0): Uint8Array => p.encodeMessage(7, command, flags, payload);
const reply = (command: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array => p.encodeMessage(7, command, 1, payload);
const hex64 = (value: number | bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
const bytes = (...values: number[]): Uint8Array => Uint8Array.of(...values);
const BIG = 0x1234_5678_9abc_def0n;

/** Per command: what is sent, and what the dissector must show of it. */
const SAMPLES: readonly { readonly name: string; readonly from?: Side; readonly message: Uint8Array; readonly fields: Readonly<Record<string, readonly string[]>> }[] = [
  { name: 'VERSION', message: request(1, p.encodeVersion({ major: 0, minor: 2, capabilities: { maxMsgFds: 8 } })), fields: { 'version.major': ['0'], 'version.minor': ['2'], 'version.json': ['{"capabilities":{"max_msg_fds":8}}'] } },
  { name: 'DMA_MAP', message: request(2, p.encodeDmaMap({ flags: 9, fdOffset: 0x5000n, address: BIG, size: 0x2000n })), fields: { argsz: ['32'], 'dma_map.flags': ['0x00000009'], 'dma_map.flags.file_io': ['True'], 'dma_map.flags.write': ['False'], offset: [hex64(0x5000)], address: [hex64(BIG)], length: [hex64(0x2000)] } },
  { name: 'DMA_UNMAP', message: request(3, p.encodeDmaUnmap({ flags: 1, address: BIG, size: 0x2000n, bitmap: { pageSize: 4096n, bytes: 8n } })), fields: { argsz: ['48'], 'dma_unmap.flags.get_dirty_bitmap': ['True'], address: [hex64(BIG)], page_size: ['4096'], bitmap_size: ['8'], bitmap: [] } },
  { name: 'DMA_UNMAP', from: 'server', message: reply(3, p.encodeDmaUnmapReply({ argsz: 48, flags: 1, address: BIG, size: 0x2000n, bitmap: { pageSize: 4096n, bytes: 8n } }, bytes(3, 0, 0, 0, 0, 0, 0, 0))), fields: { bitmap: ['0300000000000000'], bitmap_size: ['8'] } },
  { name: 'DEVICE_GET_INFO', from: 'server', message: reply(4, p.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 })), fields: { 'info.flags.reset': ['True'], 'info.flags.pci': ['True'], 'info.num_regions': ['9'], 'info.num_irqs': ['5'] } },
  {
    name: 'DEVICE_GET_REGION_INFO', from: 'server', message: reply(5, p.encodeRegionInfo({ index: 2, flags: 7, sizeBytes: 0x10000, fileOffset: 0x8000, areas: [{ offset: 0, sizeBytes: 0x1000 }, { offset: 0x2000, sizeBytes: 0x3000 }], type: { type: 0x80000008, subtype: 5 } }, 4096).payload),
    fields: { region: ['2'], 'region_info.flags.caps': ['True'], 'region_info.size': [hex64(0x10000)], offset: [hex64(0x8000)], 'region_info.cap.id': ['1', '2'], 'region_info.type': ['0x80000008'], 'region_info.subtype': ['0x00000005'], 'region_info.areas': ['2'], 'region_info.area.offset': [hex64(0), hex64(0x2000)], 'region_info.area.size': [hex64(0x1000), hex64(0x3000)] },
  },
  {
    name: 'DEVICE_GET_REGION_IO_FDS', from: 'server', message: reply(6, p.encodeRegionIoFds(1, [
      { kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 1, datamatch: BIG },
      { kind: 'ioregionfd', offset: 16, sizeBytes: 8, fdIndex: 1, flags: 2, userData: 5n },
      { kind: 'shadow', offset: 32, sizeBytes: 4, fdIndex: -1, flags: 0, memoryFdIndex: 2, memoryOffset: 64, datamatch: 7n },
    ], 4096).payload), fields: {
      'io_fds.count': ['3'], 'io_fd.offset': [hex64(8), hex64(16), hex64(32)], 'io_fd.size': ['4', '8', '4'], 'io_fd.fd_index': ['0', '1', '-1'], 'io_fd.type': ['0', '1', '2'],
      'io_fd.datamatch': [hex64(BIG), hex64(7)], 'io_fd.user_data': [hex64(5)], 'io_fd.memory_fd_index': ['2'], 'io_fd.memory_offset': [hex64(64)],
    },
  },
  { name: 'DEVICE_GET_REGION_IO_FDS', from: 'server', message: reply(6, p.encodeRegionIoFds(1, [{ kind: 'ioeventfd', offset: 8, sizeBytes: 4, fdIndex: 0, flags: 1, datamatch: BIG }], 4096, 40).payload), fields: { 'io_fd.datamatch': [hex64(BIG)] } },
  { name: 'DEVICE_GET_IRQ_INFO', from: 'server', message: reply(7, p.encodeIrqInfo({ index: 2, flags: 9, count: 17 })), fields: { irq: ['2'], 'irq_info.flags.noresize': ['True'], 'irq_info.flags.maskable': ['False'], 'irq_info.count': ['17'] } },
  { name: 'DEVICE_SET_IRQS', message: request(8, p.encodeSetIrqs({ action: 'unmask', index: 1, start: 3, count: 4, data: bytes(1, 0, 1, 0) })), fields: { irq: ['1'], 'set_irqs.flags.unmask': ['True'], 'set_irqs.flags.bool': ['True'], 'set_irqs.start': ['3'], 'set_irqs.count': ['4'], 'set_irqs.bools': ['01000100'] } },
  { name: 'REGION_READ', message: request(9, p.encodeRegionRead({ offset: 0x3c00, region: 0, count: 4 })), fields: { offset: [hex64(0x3c00)], region: ['0'], count: ['4'], data: [] } },
  { name: 'REGION_READ', from: 'server', message: reply(9, p.encodeRegionData(0x3c00, 0, bytes(1, 2, 3, 4))), fields: { data: ['01020304'] } },
  { name: 'REGION_WRITE', message: request(10, p.encodeRegionData(4, 7, bytes(6, 0)), 0x10), fields: { no_reply: ['True'], region: ['7'], count: ['2'], data: ['0600'] } },
  { name: 'DMA_READ', from: 'server', message: request(11, p.encodeDmaRead({ address: BIG, count: 300 })), fields: { address: [hex64(BIG)], count: ['300'] } },
  { name: 'DMA_READ', message: reply(11, p.encodeDmaReadReply(BIG, bytes(1, 2, 3), 'lvu')), fields: { count: ['3'], data: ['010203'] } },
  { name: 'DMA_READ', message: reply(11, p.encodeDmaReadReply(BIG, bytes(1, 2, 3), 'qemu')), fields: { count: ['3'], data: ['010203'] } },
  { name: 'DMA_WRITE', from: 'server', message: request(12, p.encodeDmaWrite(BIG, bytes(9, 8, 7, 6, 5), 'lvu')), fields: { count: ['5'], data: ['0908070605'] } },
  { name: 'DMA_WRITE', from: 'server', message: request(12, p.encodeDmaWrite(BIG, bytes(9, 8, 7, 6, 5), 'qemu')), fields: { count: ['5'], data: ['0908070605'] } },
  { name: 'DMA_WRITE', message: reply(12, p.encodeDmaWriteReply({ address: BIG, count: 5 }, 'lvu')), fields: { address: [hex64(BIG)], count: ['5'] } },
  { name: 'DEVICE_RESET', message: request(13, new Uint8Array(0)), fields: { size: ['16'] } },
  { name: 'REGION_WRITE_MULTI', message: request(15, p.encodeRegionWriteMulti([{ offset: 8, region: 2, data: bytes(1, 2, 3, 4) }, { offset: 12, region: 0, data: bytes(5) }])), fields: { 'write_multi.count': ['2'], offset: [hex64(8), hex64(12)], region: ['2', '0'], count: ['4', '1'], data: ['01020304', '05'] } },
  { name: 'DEVICE_FEATURE', message: request(16, p.encodeDeviceFeature(6, p.VFIO_DEVICE_FEATURE_SET, p.encodeDmaLogging({ pageSize: 4096n, ranges: [{ iova: 0x1000n, length: 0x2000n }] }))), fields: { 'feature.number': ['6'], 'feature.set': ['True'], 'feature.get': ['False'], page_size: ['4096'], 'feature.num_ranges': ['1'], 'feature.iova': [hex64(0x1000)], length: [hex64(0x2000)] } },
  { name: 'DEVICE_FEATURE', message: request(16, p.encodeDeviceFeature(2, p.VFIO_DEVICE_FEATURE_SET, p.encodeMigDeviceState(3))), fields: { 'feature.number': ['2'], 'feature.state': ['3'], 'feature.data_fd': ['-1'] } },
  { name: 'DEVICE_FEATURE', from: 'server', message: reply(16, p.encodeDeviceFeature(1, p.VFIO_DEVICE_FEATURE_GET, p.encodeMigrationFeature(5))), fields: { 'feature.migration': [hex64(5)] } },
  { name: 'DEVICE_FEATURE', from: 'server', message: reply(16, p.encodeDeviceFeature(8, p.VFIO_DEVICE_FEATURE_GET, p.encodeDmaLoggingReport({ iova: 0x1000n, length: 0x2000n, pageSize: 4096n }, bytes(1, 0, 0, 0, 0, 0, 0, 0)))), fields: { 'feature.iova': [hex64(0x1000)], length: [hex64(0x2000)], page_size: ['4096'], bitmap: ['0100000000000000'] } },
  { name: 'MIG_DATA_READ', message: request(17, p.encodeMigDataRead(1024)), fields: { argsz: ['1032'], 'mig_data.size': ['1024'] } },
  { name: 'MIG_DATA_READ', from: 'server', message: reply(17, p.encodeMigDataReadReply(bytes(1, 2, 3), 16)), fields: { 'mig_data.size': ['3'], data: ['010203'], rest: ['00000000000000000000000000'] } },
  { name: 'MIG_DATA_WRITE', message: request(18, p.encodeMigDataWrite(bytes(4, 5))), fields: { 'mig_data.size': ['2'], data: ['0405'] } },
];

describe('the Wireshark dissector', () => {
  it('shows of every command what was sent', () => {
    const names = ['command_name', 'id', 'from_server', 'malformed', ...new Set(SAMPLES.flatMap(({ fields }) => Object.keys(fields)))];
    const shown = fieldsOf(capture(SAMPLES.map(({ from = 'client', message }) => [from, message])), names);
    expect(shown).toHaveLength(SAMPLES.length);
    for (const [i, { name, from = 'client', fields }] of SAMPLES.entries()) {
      const got = Object.fromEntries(names.map((key, k) => [key, shown[i]![k]]));
      const flag = (value: string): string => ({ True: '1', False: '0' })[value] ?? value;
      const expected = { command_name: [name], id: ['0x0007'], from_server: [from === 'server' ? '1' : '0'], malformed: [], ...Object.fromEntries(Object.entries(fields).map(([key, values]) => [key, values.map(flag)])) };
      expect(Object.fromEntries(Object.keys(expected).map((key) => [key, got[key]!.map(flag)])), `${name} ${i}`).toEqual(expected);
    }
    // Everything the protocol has is in the table above.
    expect(new Set(SAMPLES.map(({ name }) => name))).toEqual(new Set([...p.COMMANDS.values()].map(({ name }) => name)));
  });

  it('matches replies to requests in order, with the time between, and marks errors', () => {
    const file = capture([
      ['client', p.encodeMessage(1, 9, 0, p.encodeRegionRead({ offset: 0, region: 0, count: 4 }))],
      ['server', p.encodeMessage(1, 11, 0, p.encodeDmaRead({ address: 0n, count: 4 }))],
      ['client', p.encodeMessage(1, 9, 0, p.encodeRegionRead({ offset: 4, region: 0, count: 4 }))],
      ['server', p.encodeMessage(1, 9, 1, p.encodeRegionData(0, 0, bytes(1, 2, 3, 4)))],
      ['client', p.encodeMessage(1, 11, 1, p.encodeDmaReadReply(0n, bytes(1, 2, 3, 4), 'lvu'))],
      ['server', p.encodeErrorReply(1, 9, 22)],
      ['client', p.encodeMessage(2, 10, 0x10, p.encodeRegionData(0, 0, bytes(1)))],
      ['server', p.encodeErrorReply(5, 9, 22)],
    ]);
    expect(fieldsOf(file, ['response_in', 'response_to', 'time', 'errno', 'expert.error', 'expert.unexpected_reply']).map((row) => row.map((v) => v.join()))).toEqual([
      ['4', '', '', '', '', ''],
      ['5', '', '', '', '', ''],
      ['6', '', '', '', '', ''],
      ['', '1', '0.001500000', '', '', ''],
      ['', '2', '0.001500000', '', '', ''],
      ['', '3', '0.001500000', '22', expect.anything(), ''],
      ['', '', '', '', '', ''],
      ['', '', '', '22', expect.anything(), expect.anything()],
    ]);
  });

  it('shows descriptors, JSON for programs, and several messages in one packet', () => {
    const two = Buffer.concat([request(13, new Uint8Array(0)), request(9, p.encodeRegionRead({ offset: 0, region: 7, count: 2 }))]);
    const file = capture([['client', request(2, p.encodeDmaMap({ flags: 3, fdOffset: 0n, address: 0n, size: 4096n })), [{ kind: 'memfd', sizeBytes: 1 << 29, file: 3, name: '' }, { kind: 'eventfd', sizeBytes: 0, file: 0, name: '' }]], ['client', two]]);
    expect(fieldsOf(file, ['fds', 'fd.kind', 'fd.file', 'fd.size', 'command_name'])).toEqual([
      [['2'], ['1', '3'], ['3', '0'], ['536870912', '0'], ['DMA_MAP']],
      [['0'], [], [], [], ['DEVICE_RESET', 'REGION_READ']],
    ]);
    const json = JSON.parse(tshark(file, '-T', 'json')) as { _source: { layers: Record<string, unknown> } }[];
    expect(JSON.stringify(json[0]!._source.layers)).toContain('"vfio_user.length":"0x0000000000001000"');
  });

  it('never fails on malformed messages, and says what is wrong with them', () => {
    const samples = SAMPLES.map(({ from = 'client', message }) => [from, message] as const);
    const malformed: Sent[] = [];
    for (const [from, message] of samples) {
      // Cut at every length, the size field saying so.
      for (let length = 16; length < message.length; length += 3) {
        const shorter = Uint8Array.from(message.subarray(0, length));
        new DataView(shorter.buffer).setUint32(4, length, true);
        malformed.push([from, shorter]);
      }
    }
    const change = fc.record({ sample: fc.constantFrom(...samples), changes: fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 5 }) });
    for (const { sample: [from, message], changes } of fc.sample(change, { numRuns: 1500, seed: 7 })) {
      const bad = Uint8Array.from(message);
      for (const [at, value] of changes) bad[at % bad.length] = value;
      malformed.push([from, bad]);
    }
    const text = tshark(capture(malformed), '-V');
    expect(text).not.toContain('Lua Error');
    expect(text.match(/^Frame \d+:/gm)).toHaveLength(malformed.length);
    expect(text).toContain('ends before');
    expect(text).toContain('is unknown');
  });

  it('shows messages that take several packets, and what comes after them', () => {
    const read = p.encodeMigDataReadReply(new Uint8Array(600_000).fill(7));
    const file = capture([['client', request(17, p.encodeMigDataRead(600_000))], ['server', reply(17, read)], ['client', request(13, new Uint8Array(0))]]);
    expect(fieldsOf(file, ['command_name', 'response_to', 'continued', 'mig_data.size', 'malformed']).map((row) => row.map((v) => v.join().replace('True', '1').replace('False', '0')))).toEqual([
      ['MIG_DATA_READ', '', '0', '600000', ''],
      ['MIG_DATA_READ', '1', '0', '600000', ''],
      ['', '', '1', '', ''],
      ['', '', '1', '', ''],
      ['DEVICE_RESET', '', '0', '', ''],
    ]);
    expect(tshark(file)).toContain('more bytes of the message before');
  });

  it('never fails on broken trace headers, nor on packets of somebody else', () => {
    const head = captureHeader({ session: 1, channel: 'main', from: 'client', framing: 'whole', fds: [{ kind: 'memfd', sizeBytes: 5, file: 1, name: '' }] });
    const packets = fc.sample(fc.tuple(fc.nat(70), fc.array(fc.tuple(fc.nat(15), fc.nat(255)), { maxLength: 3 })), { numRuns: 400, seed: 3 }).map(([length, changes]) => {
      const packet = Uint8Array.from([...head, ...request(9, p.encodeRegionRead({ offset: 0, region: 0, count: 4 }))]);
      for (const [at, value] of changes) packet[at] = value;
      return packet.subarray(0, length);
    });
    const file = Buffer.concat([sectionHeaderBlock('x', ''), interfaceBlock(147, '', '', ''), ...packets.map((data) => packetBlock({ interface: 0, timestampNs: 0n, data: [data], originalBytes: data.length, direction: 'inbound' }))]);
    expect(tshark(file, '-V')).not.toContain('Lua Error');
  });
});
