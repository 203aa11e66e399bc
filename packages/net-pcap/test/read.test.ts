import { mkdirSync, symlinkSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { VdevBus } from '@emudev/emudev';
import { countOpenFds } from '@emudev/linux';
import { PcapError, driver } from '@emudev/net-pcap';
import { captureFile, entryBytes, fileHeader, frame } from './fixtures/captures.ts';
import { Folder, Rig } from './fixtures/rig.ts';

let folder: Folder;
beforeEach(() => {
  folder = new Folder();
});
afterEach(() => {
  folder[Symbol.dispose]();
});

describe('what is received', () => {
  test.each([
    { nanoseconds: false, bigEndian: false },
    { nanoseconds: false, bigEndian: true },
    { nanoseconds: true, bigEndian: false },
    { nanoseconds: true, bigEndian: true },
  ])('are the frames of the file (nanoseconds $nanoseconds, big-endian $bigEndian)', async (variant) => {
    const frames = [14, 15, 60, 127, 128, 129, 1514, 9728].map((length, i) => frame(i, length));
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', captureFile(frames, variant))}`);
    expect(rig.pullAll()).toEqual(frames);
    const bytes = frames.reduce((sum, f) => sum + f.length, 0);
    expect(rig.port.stats()).toEqual({ ipackets: 8n, ibytes: BigInt(bytes), imissed: 0n, ierrors: 0n, opackets: 0n, obytes: 0n, oerrors: 0n, rxNombuf: 0n });
    expect(rig.pull()).toEqual([]);
  });

  test('is everything, in order, from a file of many blocks, whoever reads on', async () => {
    const frames = Array.from({ length: 900 }, (_, i) => frame(i, 14 + ((i * 977) % 2000)));
    frames.push(...Array.from({ length: 60 }, (_, i) => frame(i, 9000 + i)));
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', captureFile(frames))}`);
    const received: Uint8Array[] = [];
    for (let call = 0; !rig.port.finished && call < 1000; call++) {
      received.push(...rig.pull((call % 32) + 1));
      if (call % 5 === 0) await rig.reopen();
      if (call % 20 === 0) {
        await rig.port.stop();
        await rig.port.start();
      }
    }
    expect(received.length).toBe(frames.length);
    expect(Buffer.compare(Buffer.concat(received), Buffer.concat(frames))).toBe(0);
  });

  test('what the capture had cut short is received as short, and counted', async () => {
    const file = captureFile([{ data: frame(1, 64), origLength: 1514 }, frame(2)]);
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', file)}`);
    expect(rig.pullAll()).toEqual([frame(1, 64), frame(2)]);
    expect(rig.count('pcap_rx_truncated')).toBe(1n);
    expect(rig.port.stats().ierrors).toBe(0n);
  });

  test('frames that no port can carry are skipped and counted', async () => {
    const file = captureFile([frame(1, 9729), frame(2), frame(3, 262_144), frame(4, 13), frame(5, 0), frame(6)]);
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', file)}`);
    expect(rig.pullAll()).toEqual([frame(2), frame(6)]);
    expect([rig.count('rx_errors'), rig.count('rx_q0_errors'), rig.count('pcap_rx_oversized'), rig.count('pcap_rx_too_short')]).toEqual([4n, 4n, 2n, 2n]);
    rig.port.resetStats();
    expect([rig.count('rx_errors'), rig.count('pcap_rx_oversized')]).toEqual([0n, 0n]);
  });

  test('a file without frames is one', async () => {
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', captureFile([]))}`);
    expect(rig.pullAll()).toEqual([]);
    expect(rig.port.stats().ierrors).toBe(0n);
  });

  test('a port without a file to write swallows what it is sent', async () => {
    await using rig = await Rig.start(`rx_pcap=${folder.put('in.pcap', captureFile([]))}`);
    expect(rig.push([frame(1), frame(2, 100)])).toBe(2);
    expect(rig.port.stats()).toMatchObject({ opackets: 2n, obytes: 160n, oerrors: 0n });
  });
});

describe('infinite_rx', () => {
  test('starts over, with the frames of the file however they were changed meanwhile', async () => {
    const frames = [frame(1), frame(2, 100), frame(3, 1514)];
    await using rig = await Rig.start(`infinite_rx=on,rx_pcap=${folder.put('in.pcap', captureFile(frames))}`);
    const received: Uint8Array[] = [];
    for (let call = 0; call < 50; call++) {
      const burst = rig.pull();
      received.push(...burst);
      rig.overwrite(burst.length);
    }
    expect(received.length).toBeGreaterThan(1000);
    expect(received.every((got, i) => Buffer.compare(got, frames[i % 3]!) === 0)).toBe(true);
    expect(rig.port.finished).toBe(false);
  });

  test('fills whole bursts from a short file', async () => {
    await using rig = await Rig.start(`infinite_rx=on,rx_pcap=${folder.put('in.pcap', captureFile([frame(1), frame(2)]))}`);
    for (let i = 0; i < 3; i++) rig.pull();
    for (let i = 0; i < 10; i++) expect(rig.pull()).toHaveLength(32);
  });

  test('starts over behind a long frame that the file does not hold all of', async () => {
    const file = captureFile([...Array.from({ length: 28 }, (_, i) => frame(i, 9000)), { data: new Uint8Array(20_000), inclLength: 200_000 }]);
    await using rig = await Rig.start(`infinite_rx=on,rx_pcap=${folder.put('in.pcap', file)}`);
    const received: Uint8Array[] = [];
    for (let call = 0; call < 20; call++) received.push(...rig.pull());
    expect(received.length).toBeGreaterThan(100);
    expect(received.every((got, i) => Buffer.compare(got, frame(i % 28, 9000)) === 0)).toBe(true);
  });

  test('starts over in a file of many blocks', async () => {
    const frames = Array.from({ length: 70 }, (_, i) => frame(i, 9000));
    await using rig = await Rig.start(`infinite_rx=on,rx_pcap=${folder.put('in.pcap', captureFile([...frames, frame(7, 20_000)]))}`);
    const received: Uint8Array[] = [];
    for (let call = 0; received.length < 200 && call < 100; call++) received.push(...rig.pull());
    expect(received.length).toBeGreaterThanOrEqual(200);
    expect(received.every((got, i) => Buffer.compare(got, frames[i % 70]!) === 0)).toBe(true);
  });

  test.each([
    ['no frames', captureFile([])],
    ['only frames that no port can carry', captureFile([frame(1, 13), frame(2, 9729)])],
  ])('of a file with %s ends', async (_, file) => {
    await using rig = await Rig.start(`infinite_rx=on,rx_pcap=${folder.put('in.pcap', file)}`);
    expect(rig.pullAll(10)).toEqual([]);
  });
});

describe('a broken record', () => {
  const good = [frame(1), frame(2, 200)];
  test.each([
    ['a header cut short', entryBytes({ data: frame(3) }).slice(0, 15)],
    ['a frame cut short', entryBytes({ data: frame(3) }).slice(0, 75)],
    ['a frame that is not there', entryBytes({ data: frame(3) }).slice(0, 16)],
    ['an absurd length', entryBytes({ data: frame(3), inclLength: 0xffff_fff0 })],
    ['a length just above the limit', Buffer.concat([entryBytes({ data: frame(3, 262_145) }), entryBytes({ data: frame(4) })])],
  ])('%s: ends reading, counted once', async (_, tail) => {
    for (const infinite of ['off', 'on']) {
      await using rig = await Rig.start(`infinite_rx=${infinite},rx_pcap=${folder.put('in.pcap', Buffer.concat([captureFile(good), tail]))}`);
      expect(rig.pullAll(10)).toEqual(good);
      expect([rig.pull(), rig.count('rx_errors'), rig.count('pcap_rx_broken')]).toEqual([[], 1n, 1n]);
    }
  });
});

describe('refused at probe, with nothing left open', () => {
  async function refusal(args: string): Promise<PcapError> {
    const before = countOpenFds();
    await using bus = new VdevBus().register(driver);
    const error: unknown = await bus.probe(`net_pcap0,${args}`).then(() => undefined, (e: unknown) => e);
    expect(error).toBeInstanceOf(PcapError);
    expect(countOpenFds()).toBe(before);
    const window = Window.open();
    expect(window.allocatedBytes).toBe(0);
    window[Symbol.dispose]();
    return error as PcapError;
  }

  test.each([
    ['an empty file', new Uint8Array(0), 'ERR_PCAP_FORMAT', /ends after 0 bytes/],
    ['a header cut short', fileHeader().slice(0, 23), 'ERR_PCAP_FORMAT', /ends after 23 bytes/],
    ['something else', new TextEncoder().encode('#!/bin/sh\necho nothing to see here\n'), 'ERR_PCAP_FORMAT', /begins with 0x/],
    ['pcapng', Buffer.concat([Uint8Array.of(0x0a, 0x0d, 0x0d, 0x0a), new Uint8Array(24)]), 'ERR_PCAP_FORMAT', /pcapng.*editcap/],
    ['version 2.3', fileHeader({ version: [2, 3] }), 'ERR_PCAP_FORMAT', /version 2\.3/],
    ['raw IP', fileHeader({ linkType: 101 }), 'ERR_PCAP_LINKTYPE', /link type 101/],
    ['raw IP, big-endian', fileHeader({ linkType: 101, bigEndian: true }), 'ERR_PCAP_LINKTYPE', /link type 101/],
    ['Ethernet with FCS', fileHeader({ linkType: 0x2400_0001 }), 'ERR_PCAP_LINKTYPE', /without FCS/],
  ])('%s', async (_, bytes, code, message) => {
    const error = await refusal(`rx_pcap=${folder.put('in.pcap', bytes)},tx_pcap=${folder.file('out.pcap')}`);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as unknown });
    expect(error.message).toContain(folder.file('in.pcap'));
  });

  test('no file, a missing one, one in a missing folder', async () => {
    expect(await refusal('snaplen=100')).toMatchObject({ code: 'ERR_PCAP_ARGS', errno: 22 });
    expect(await refusal(`rx_pcap=${folder.file('nope')}`)).toMatchObject({ code: 'ERR_PCAP_FILE', errno: 2, message: expect.stringMatching(/ENOENT/) as unknown });
    expect(await refusal(`tx_pcap=${folder.file('no/nope')}`)).toMatchObject({ code: 'ERR_PCAP_FILE', errno: 2 });
  });

  test('folders, devices, and pipes, without waiting for the other end', async () => {
    mkdirSync(folder.file('folder'));
    execFileSync('mkfifo', [folder.file('pipe')]);
    expect(await refusal(`rx_pcap=${folder.file('folder')}`)).toMatchObject({ code: 'ERR_PCAP_FILE_TYPE' });
    expect(await refusal(`rx_pcap=${folder.file('pipe')}`)).toMatchObject({ code: 'ERR_PCAP_FILE_TYPE' });
    expect(await refusal(`tx_pcap=${folder.file('pipe')}`)).toMatchObject({ errno: 6 }); // ENXIO: nobody reads
    expect(await refusal('tx_pcap=/dev/full')).toMatchObject({ code: 'ERR_PCAP_FILE_TYPE' });
  });

  test('writing the file that is read, which survives', async () => {
    const file = captureFile([frame(1)]);
    const path = folder.put('in.pcap', file);
    symlinkSync(path, folder.file('link.pcap'));
    expect(await refusal(`rx_pcap=${path},tx_pcap=${folder.file('link.pcap')}`)).toMatchObject({ code: 'ERR_PCAP_ARGS' });
    expect(Buffer.compare(folder.get('in.pcap'), file)).toBe(0);
  });
});
