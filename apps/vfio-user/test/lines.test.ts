import { readFileSync } from 'node:fs';
import * as p from '@emudev/vfio-user-protocol';
import { describe, expect, it } from 'vitest';
import { REGISTERS } from '../../../packages/iavf-emu/src/register-table.ts';
import { MAX_DEFERRED_BYTES, MAX_KNOWN_REGIONS, MAX_OPEN_REQUEST_BYTES, MAX_OPEN_REQUESTS } from '../src/limits.ts';
import { CONFIG_REGISTERS } from '../src/trace/config-registers.ts';
import { DictionaryError, parseDictionary, RegisterNames } from '../src/trace/dictionary.ts';
import { Exchanges, type Exchange } from '../src/trace/exchanges.ts';
import { makeFilter } from '../src/trace/filter.ts';
import { Formatter } from '../src/trace/format.ts';
import type { ObservedMessage } from '../src/trace/observed.ts';
import { TextPrinter, JsonPrinter } from '../src/trace/printers.ts';
import { SessionFacts } from '../src/trace/session-facts.ts';
import { Summary } from '../src/trace/summary.ts';
import { Tracer } from '../src/trace/tracer.ts';

const IAVF = JSON.parse(readFileSync(new URL('../dictionaries/iavf.json', import.meta.url), 'utf8')) as unknown;
const NAMES = new RegisterNames(parseDictionary(IAVF, 'iavf.json'), CONFIG_REGISTERS);

type Sent = Partial<ObservedMessage> & { readonly bytes: Uint8Array };

function observe(messages: readonly Sent[], ticks: readonly number[] = [], ended = false): { done: Exchange[]; unfinished: Exchange[] } {
  const done: Exchange[] = [];
  const unfinished: Exchange[] = [];
  const exchanges = new Exchanges(1, new SessionFacts(), { done: (e) => { done.push(e); }, unfinished: (e) => { unfinished.push(e); } });
  messages.forEach((message, i) => {
    if (ticks[i] !== undefined) exchanges.tick(ticks[i]);
    exchanges.add({ atMs: i, session: 1, channel: 'main', from: 'client', size: message.bytes.length, framing: 'whole', fds: [], ...message });
  });
  if (ended) exchanges.end();
  return { done, unfinished };
}

function lines(messages: readonly Sent[], ended = false): string[] {
  const formatter = new Formatter(NAMES, 32);
  return observe(messages, [], ended).done.map((exchange) => {
    const { name, call, result, latency, malformed } = formatter.line(exchange);
    return [`${name}${call}`, result, latency, malformed].filter((s) => s !== '').join(' ');
  });
}

const request = (command: number, payload: Uint8Array, flags = 0): Sent => ({ bytes: p.encodeMessage(7, command, flags, payload) });
const reply = (command: number, payload: Uint8Array = new Uint8Array(0), id = 7): Sent => ({ bytes: p.encodeMessage(id, command, 1, payload), from: 'server' });
const refused = (command: number, errno = 22): Sent => ({ bytes: p.encodeErrorReply(7, command, errno), from: 'server' });
const word = (value: number): Uint8Array => Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);

/** The server asks, the client answers. */
const asked = (command: number, payload: Uint8Array): Sent => ({ ...request(command, payload), from: 'server' });
const answered = (command: number, payload?: Uint8Array): Sent => ({ ...reply(command, payload), from: 'client' });

describe('DMA messages with a QEMU', () => {
  const version = { ...request(1, p.encodeVersion({ major: 0, minor: 0, capabilities: { maxMsgFds: 16, maxDataXferSize: 1 << 20, writeMultiple: true } })) };
  const zeros = new Uint8Array(8);
  const data = Uint8Array.of(0, 0, 0, 0, 5, 6, 7, 8);
  const write = (dialect: 'qemu' | 'lvu'): Sent[] => [asked(12, p.encodeDmaWrite(0x1000n, data, dialect)), answered(12, dialect === 'qemu' ? undefined : p.encodeDmaWriteReply({ address: 0x1000n, count: 8 }, 'lvu'))];
  const read = (bytes: Uint8Array, dialect: 'qemu' | 'lvu'): Sent[] => [asked(11, p.encodeDmaRead({ address: 0x1000n, count: 8 })), answered(11, p.encodeDmaReadReply(0x1000n, bytes, dialect))];
  const probe = asked(11, p.encodeDmaRead({ address: 0x1000n, count: 2 ** 32 + 4 }));

  it.each([
    ['qemu', 'as 10.1 speaks, that answers a server which asks for the upper half of a count', answered(11, p.encodeDmaReadReply(0x1000n, zeros.subarray(0, 4), 'qemu'))],
    ['lvu', 'as 11.1 speaks, that refuses it', { bytes: p.encodeErrorReply(7, 11, p.E2BIG) } satisfies Sent],
  ] as const)('%s: %s', (dialect, _what, answer) => {
    const shown = lines([version, probe, answer, ...read(data, dialect), ...read(zeros, dialect), ...write(dialect)]).slice(-3);
    expect(shown[0]).toContain('data=0x0807060500000000');
    expect(shown[1]).toContain('data=0x0000000000000000');
    expect(shown[2]).toContain('data=0x0807060500000000');
    expect(shown.join()).not.toContain('malformed');
  });

  it('are told apart by themselves where no server asks', () => {
    for (const dialect of ['qemu', 'lvu'] as const) {
      const shown = lines([version, ...write(dialect), ...read(data, dialect)]).slice(-2);
      expect([dialect, shown[0]!.includes('data=0x0807060500000000'), shown[1]!.includes('data=0x0807060500000000'), shown.join().includes('malformed')]).toEqual([dialect, true, true, false]);
    }
  });
});

describe('lines', () => {
  it('name the register and its bits', () => {
    expect(lines([
      request(9, p.encodeRegionRead({ offset: 0, region: 7, count: 4 })), reply(9, p.encodeRegionData(0, 7, Uint8Array.of(0x86, 0x80, 0x89, 0x18))),
      { ...request(9, p.encodeRegionRead({ offset: 0x5c00, region: 0, count: 4 })), atMs: 2 }, { ...reply(9, p.encodeRegionData(0x5c00, 0, word(0x19))), atMs: 2.0231 },
      request(10, p.encodeRegionData(0x3808, 0, word(1)), 0x10),
      request(10, p.encodeRegionData(4, 7, Uint8Array.of(6, 4))), reply(10, p.encodeRegionRead({ offset: 4, region: 7, count: 2 })),
    ])).toEqual([
      'REGION_READ(CONFIG VENDOR_ID..DEVICE_ID +0x0, 4) = 0x18898086 <1.00 ms>',
      'REGION_READ(BAR0 VFINT_DYN_CTL01 +0x5c00, 4) = 0x00000019 {INTENA ITR_INDX=none} <23.1 µs>',
      'REGION_WRITE(BAR0 VFINT_DYN_CTLN1[2] +0x3808, 4, 0x00000001 {INTENA}) posted',
      'REGION_WRITE(CONFIG COMMAND +0x4, 2, 0x0406 {MEMORY MASTER INTX_DISABLE}) = 2 <1.00 ms>',
    ]);
  });

  it('say why a request was refused where the session has told', () => {
    expect(lines([
      request(4, p.encodeDeviceInfo({ flags: 0, numRegions: 0, numIrqs: 0 })), reply(4, p.encodeDeviceInfo({ flags: 3, numRegions: 9, numIrqs: 5 })),
      request(5, p.encodeGetRegionInfo(0)), reply(5, p.encodeRegionInfo({ flags: 3, index: 0, sizeBytes: 0x1000, fileOffset: 0 }, 4096).payload),
      request(9, p.encodeRegionRead({ offset: 0, region: 9, count: 4 })), refused(9),
      request(9, p.encodeRegionRead({ offset: 0xffe, region: 0, count: 4 })), refused(9),
      request(7, p.encodeGetIrqInfo(5)), refused(7),
      request(13, new Uint8Array(0)), refused(13, 16),
    ]).slice(2)).toEqual([
      'REGION_READ(9 +0x0, 4) = -1 EINVAL (region 9 of 9) <1.00 ms>',
      'REGION_READ(BAR0 +0xffe, 4) = -1 EINVAL (0x1002 is beyond the 0x1000 bytes of BAR0) <1.00 ms>',
      'DEVICE_GET_IRQ_INFO(index=5) = -1 EINVAL (interrupt index 5 of 5) <1.00 ms>',
      'DEVICE_RESET() = -1 EBUSY <1.00 ms>',
    ]);
  });

  it('show descriptors, raw bytes, cut and malformed messages', () => {
    const shown = lines([
      { ...request(2, p.encodeDmaMap({ flags: 3, fdOffset: 0n, address: 0x1000n, size: 0x2000n })), fds: [{ kind: 'memfd', sizeBytes: 1 << 29, file: 1, name: 'memfd:ram' }] }, reply(2),
      { bytes: Uint8Array.of(1, 2, 3), framing: 'raw' },
      request(9, new Uint8Array(3)), refused(9),
      { bytes: p.encodeMessage(1, 18, 0x10, p.encodeMigDataWrite(new Uint8Array(4))), framing: 'cut', size: 5000 },
    ]);
    expect(shown[0]).toMatch(/^DMA_MAP\(flags=READ\|WRITE, offset=0x0, address=0x1000, size=0x2000, fd=memfd:ram 512 MiB\) = 0 </);
    expect(shown[1]).toBe('raw(3 bytes, 010203)');
    expect(shown[2]).toContain('malformed request: the payload of 3 bytes ends before offset');
    expect(shown[3]).toContain('request of 5000 bytes, 28 kept');
  });

  it('show an answer that is not what was asked for', () => {
    const read = request(9, p.encodeRegionRead({ offset: 0, region: 1, count: 4 }));
    expect(lines([
      read, reply(9, p.encodeRegionData(0, 1, Uint8Array.of(1, 2))),
      read, reply(9, p.encodeRegionData(8, 1, word(5))),
      read, reply(9, p.encodeRegionData(0, 2, word(5))),
      request(9, p.encodeRegionRead({ offset: 2 ** 52, region: 1, count: 4 })),
    ], true)).toEqual([
      'REGION_READ(BAR1 +0x0, 4) = 0x0201 (2 of 4 bytes) <1.00 ms>',
      'REGION_READ(BAR1 +0x0, 4) = {offset=0x8, region=BAR1, count=4, data=0x00000005} <1.00 ms>',
      'REGION_READ(BAR1 +0x0, 4) = {offset=0x0, region=BAR2, count=4, data=0x00000005} <1.00 ms>',
      'REGION_READ(BAR1 +0x10000000000000, 4) = ?',
    ]);
    const beyond = new Uint8Array(16);
    new DataView(beyond.buffer).setBigUint64(0, (1n << 64n) - 1n, true);
    expect(lines([request(9, beyond)], true)[0]).toContain('offset=0xffffffffffffffff');
  });

  it('a descriptor\'s name cannot drive the terminal', () => {
    expect(lines([{ ...request(13, new Uint8Array(0)), fds: [{ kind: 'file', sizeBytes: 1, file: 1, name: '/tmp/\u001b[2J' }] }, reply(13)])[0]).not.toContain('\u001b');
  });
});

describe('requests and replies', () => {
  const read = (id: number): Sent => ({ bytes: p.encodeMessage(id, 9, 0, p.encodeRegionRead({ offset: 0, region: 0, count: 1 })) });
  const got = (id: number): Sent => ({ bytes: p.encodeMessage(id, 9, 1, p.encodeRegionData(0, 0, Uint8Array.of(1))), from: 'server' });

  it('belong together by id, out of order too, the oldest first where ids repeat; both directions and channels apart', () => {
    const { done } = observe([
      read(1), read(2), read(2), { ...read(1), from: 'server' }, { ...read(1), from: 'server', channel: 'twin' },
      got(2), got(1), { ...got(1), from: 'client', channel: 'twin' }, got(2), { ...got(1), from: 'client' },
    ]);
    expect(done.map((e) => [e.from, e.channel, e.request?.message.atMs, e.reply?.message.atMs])).toEqual([
      ['client', 'main', 1, 5], ['client', 'main', 0, 6], ['server', 'twin', 4, 7], ['client', 'main', 2, 8], ['server', 'main', 3, 9],
    ]);
  });

  it('are shown as unfinished after a second, once, and late then; never answered ones at the end', () => {
    const { done, unfinished } = observe([read(1), read(2), got(1), read(3)], [0, 900, 1000.5, 3000], true);
    expect(unfinished.map((e) => e.request?.header.id)).toEqual([1, 2]);
    expect(done.map((e) => [e.request?.header.id, e.late, e.reply !== undefined])).toEqual([[1, true, true], [2, true, false], [3, false, false]]);
  });

  it('are given up, oldest first, where too many or too large ones wait; the others still find their replies', () => {
    const { done } = observe([...Array.from({ length: MAX_OPEN_REQUESTS + 2 }, (_, i) => read(i & 0xffff)), got(0), got(2)]);
    expect(done.map((e) => [e.request?.header.id, e.reply?.header.id])).toEqual([[0, undefined], [1, undefined], [undefined, 0], [2, 2]]);
    const large = (id: number): Sent => ({ bytes: p.encodeMessage(id, 18, 0, new Uint8Array(1 << 20)) });
    const kept = MAX_OPEN_REQUEST_BYTES / (1 << 20) - 1;
    const { done: gone } = observe([...Array.from({ length: kept + 3 }, (_, i) => large(i)), { bytes: p.encodeMessage(5, 18, 1, new Uint8Array(0)), from: 'server' }, large(100)]);
    expect(gone.map((e) => [e.request?.header.id, e.reply?.header.id])).toEqual([[0, undefined], [1, undefined], [2, undefined], [5, 5]]);
  });

  it('with as many different regions as a server can make up are shown, and no more than some of their sizes kept', () => {
    const { done } = observe(Array.from({ length: MAX_KNOWN_REGIONS + 10 }, (_, index) => [
      request(5, p.encodeGetRegionInfo(index)), reply(5, p.encodeRegionInfo({ flags: 3, index, sizeBytes: 16, fileOffset: 0 }, 32).payload),
    ]).flat());
    expect(done[0]!.facts.sizes.size).toBe(MAX_KNOWN_REGIONS);
    expect(done).toHaveLength(MAX_KNOWN_REGIONS + 10);
  });

  it('a reply to nothing, or to another command, is nobody\'s', () => {
    const { done } = observe([read(1), reply(10, new Uint8Array(16), 1), got(4)]);
    expect(done.map((e) => [e.request, e.reply?.header.id])).toEqual([[undefined, 1], [undefined, 4]]);
  });
});

describe('filters and the summary', () => {
  const { done } = observe([
    request(9, p.encodeRegionRead({ offset: 0, region: 0, count: 4 })), reply(9, p.encodeRegionData(0, 0, word(0))),
    request(10, p.encodeRegionData(0, 7, word(0))), refused(10),
    { ...request(8, p.encodeSetIrqs({ action: 'trigger', index: 2, start: 0, count: 1, data: 'none' })), atMs: 10 }, { ...reply(8), atMs: 30 },
    { ...request(11, p.encodeDmaRead({ address: 0n, count: 4 })), from: 'server', atMs: 40 }, { ...reply(11, p.encodeDmaReadReply(0n, word(0), 'lvu')), from: 'client', atMs: 40.5 },
    request(10, p.encodeRegionData(0, 0, word(0)), 0x10),
  ]);
  it.each([
    [{ commands: ['REGION_*'] }, [9, 10, 10]],
    [{ commands: ['region_*', '!REGION_READ'] }, [10, 10]],
    [{ commands: ['!REGION_*'] }, [8, 11]],
    [{ regions: ['bar0'] }, [9, 10]],
    [{ irqs: ['MSI-X'] }, [8]],
    [{ regions: ['7'], irqs: ['2'] }, [10, 8]],
    [{ errorsOnly: true }, [10]],
    [{ slowerThanMs: 5 }, [8]],
    [{ from: 'server' as const }, [11]],
    [{ session: 2 }, []],
  ])('%j', (options, commands) => {
    expect(done.filter(makeFilter(options)).map((e) => e.request!.header.command)).toEqual(commands);
  });

  it('counts, with latencies', () => {
    const summary = new Summary();
    for (const exchange of done) summary.add(exchange);
    expect(summary.commands()).toEqual([
      { name: 'DEVICE_SET_IRQS', count: 1, errors: 0, posted: 0, unanswered: 0, latency: { total: 20, min: 20, median: 20, p99: 20, max: 20 } },
      { name: 'REGION_WRITE', count: 2, errors: 1, posted: 1, unanswered: 0, latency: { total: 1, min: 1, median: 1, p99: 1, max: 1 } },
      { name: 'REGION_READ', count: 1, errors: 0, posted: 0, unanswered: 0, latency: { total: 1, min: 1, median: 1, p99: 1, max: 1 } },
      { name: '<- DMA_READ', count: 1, errors: 0, posted: 0, unanswered: 0, latency: { total: 0.5, min: 0.5, median: 0.5, p99: 0.5, max: 0.5 } },
    ]);
    expect(summary.table()).toContain('DEVICE_SET_IRQS      1                              20.00 ms  20.00 ms  20.00 ms  20.00 ms');
  });

  it('counts all command numbers there can be, of both sides', () => {
    const summary = new Summary();
    for (const from of ['client', 'server'] as const) {
      for (let command = 0; command <= 0xffff; command++) for (const exchange of observe([{ bytes: p.encodeMessage(1, command, 0x10, new Uint8Array(0)), from }]).done) summary.add(exchange);
    }
    expect(summary.table().split('\n')).toHaveLength(2 + 2 * 65_536 + 1);
  });

  it('prints times relative, as differences, or absolute; JSON has the fields', () => {
    const out: string[] = [];
    const sink = { write: (text: string | Uint8Array) => { out.push(String(text)); }, flush: () => {} };
    const printed = (time: 'relative' | 'delta' | 'absolute'): string[] => {
      out.length = 0;
      const printer = new TextPrinter(sink, new Formatter(NAMES, 32), () => true, { time, colors: false, startMs: 0, notes: false });
      for (const exchange of done.slice(2, 4)) printer.exchange(exchange);
      return out.map((line) => line.slice(0, 18));
    };
    expect(printed('relative')).toEqual(['   0.010000 #1  DE', '   0.040000 #1  <-']);
    expect(printed('delta')[1]).toMatch(/^ {3}0\.030000/);
    expect(printed('absolute')[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{6} #1/);
    out.length = 0;
    const json = new JsonPrinter(sink, new Formatter(NAMES, 32), () => true);
    json.exchange(done[1]!);
    expect(JSON.parse(out[0]!)).toMatchObject({ session: 1, from: 'client', command: 'REGION_WRITE', id: 7, posted: false, errno: 22, error: 'EINVAL', latencyUs: 1000, request: { region: 'CONFIG', count: '4' } });
  });
});

describe('what waits to be decoded', () => {
  it('is decoded at once where it is more than may wait', () => {
    let shown = 0;
    const tracer = new Tracer({ sinks: [{ exchange: () => { shown++; }, unfinished: () => {}, note: () => {}, flush: () => {} }] });
    const bytes = p.encodeMessage(1, 18, 0x10, new Uint8Array(1 << 20));
    const held = Math.ceil(MAX_DEFERRED_BYTES / bytes.length);
    for (let i = 0; i < held + 20; i++) tracer.message({ atMs: i, session: 1, channel: 'main', from: 'client', size: bytes.length, framing: 'whole', fds: [], bytes });
    expect(shown).toBeGreaterThanOrEqual(20);
    tracer[Symbol.dispose]();
    expect(shown).toBe(held + 20);
  });
});

describe('dictionaries', () => {
  const device = (register: object): unknown => ({ devices: [{ name: 'x', regions: { BAR0: [register] } }] });
  it.each([
    [5, 'd.json: an object is wanted, not 5'],
    [{}, 'd.json: devices: a list is wanted'],
    [{ devices: [{ name: 'x', match: ['8086'], regions: {} }] }, 'd.json: devices[0].match[0]: "vendor:device" of four hexadecimal digits each, not "8086"'],
    [{ devices: [{ name: 'x', regions: { BAR7: [] } }] }, 'd.json: devices[0].regions: no region is called "BAR7"'],
    [device({ name: 'A' }), 'd.json: devices[0].regions.BAR0[0].offset: a number within'],
    [device({ name: 'A', offset: '0xzz' }), '.offset: a number within'],
    [device({ name: 'A', offset: 0, sise: 4 }), '"sise" means nothing here'],
    [device({ name: 'A', offset: 0, size: 5 }), '.size: one of 1, 2, 3, 4, 8 bytes, not 5'],
    [device({ name: 'A', offset: 0, fields: [{ name: 'F', bits: 32 }] }), '.fields[0].bits: a number within 0..31'],
    [device({ name: 'A', offset: 0, fields: [{ name: 'F', bits: [0, 3] }] }), 'the highest bit comes first'],
    [device({ name: 'A\n', offset: 0 }), '.name: a name of 1 to 64'],
    [{ devices: [{ name: 'x', regions: { BAR0: [{ name: 'A', offset: 0, count: 2 }, { name: 'B', offset: 7, size: 1 }] } }] }, 'A and B overlap at 0x7'],
  ])('%j is refused with the path to the fault', (value, message) => {
    expect(() => parseDictionary(value, 'd.json')).toThrow(message);
  });

  it.each([
    ['a list', (deep: string) => deep, 'an object is wanted, not a list'],
    ['an id', (deep: string) => `{"devices":[{"name":"x","match":[${deep}],"regions":{}}]}`, 'hexadecimal digits each, not a list'],
    ['a number', (deep: string) => `{"devices":[{"name":"x","regions":{"BAR0":[{"name":"A","offset":{"a":${deep}}}]}}]}`, 'is wanted, not an object'],
    ['a key', () => JSON.stringify({ ['long'.repeat(1e6)]: 1 }), '"longlong'],
    ['a region', () => '{"devices":[{"name":"x","regions":{"BAR0":[],"bar0":[]}}]}', 'devices[0].regions: BAR0 is there twice'],
  ])('nested a million times, or endless, are refused in one short sentence: %s', (_what, json, message) => {
    let said = '';
    try {
      parseDictionary(JSON.parse(json('['.repeat(1e6) + ']'.repeat(1e6))), 'd.json');
    } catch (error) {
      expect(error).toBeInstanceOf(DictionaryError);
      said = (error as Error).message;
    }
    expect(said).toContain(message);
    expect(said.length).toBeLessThan(300);
  });

  it('choose the device by its ids, the one for all where none matches, the only one while they are not known', () => {
    const names = new RegisterNames(parseDictionary({ devices: [
      { name: 'one', match: ['1111:2222'], regions: { BAR0: [{ name: 'ONE', offset: 0, count: 3, stride: 16 }] } },
      { name: 'any', regions: { BAR0: [{ name: 'ANY', offset: 0 }] } },
    ] }, 'x'), CONFIG_REGISTERS);
    expect(names.deviceOf(undefined, undefined)).toBeUndefined();
    expect(names.nameOf(names.deviceOf(0x1111, 0x2222), 0, 34, 2)).toBe('ONE[2]+2');
    expect(names.nameOf(names.deviceOf(0x1111, 0x2222), 0, 20, 4)).toBeUndefined();
    expect(names.nameOf(names.deviceOf(0x1111, 0x2222), 0, 48, 4)).toBeUndefined();
    expect(names.nameOf(names.deviceOf(1, 2), 0, 0, 4)).toBe('ANY');
    expect(NAMES.deviceOf(undefined, undefined)?.name).toBe('Intel Adaptive Virtual Function');
  });

  it('the example of the README is one', () => {
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    const [device] = parseDictionary(JSON.parse(/```json\n([\s\S]*?)```/.exec(readme)![1]!), 'README.md');
    const names = new RegisterNames([device!], CONFIG_REGISTERS);
    expect(names.nameOf(device, 0, 0x118, 4)).toBe('QUEUE[3]');
    expect(names.valueOf(device, 0, 0x10, word(0x5))).toBe('ENABLE MODE=fast');
  });

  it('that of the iavf device has its registers, all of them', () => {
    const [iavf] = parseDictionary(IAVF, 'iavf.json');
    expect(iavf!.regions.get(0)!.map(({ name, offset, count }) => ({ name, offset, count }))).toEqual(REGISTERS.map(({ name, offset, count }) => ({ name, offset, count })));
  });
});
