import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { captureMessage, captureStart, readCapture } from '../src/pcapng/capture.ts';
import { CaptureError } from '../src/pcapng/errors.ts';
import { parseIgnored } from '../src/replay/ignore.ts';
import { readRecording, type RecordedMessage } from '../src/replay/recording.ts';
import { replaySession, type ReplayOptions, type ReplayResult } from '../src/replay/replayer.ts';
import { differenceText } from '../src/replay-command.ts';
import type { ObservedMessage } from '../src/trace/observed.ts';
import { CopyDevice, record, serving, typicalSession } from './recording.ts';

let capture: Uint8Array;
let withTwin: Uint8Array;
beforeAll(async () => {
  capture = await record(new CopyDevice(), typicalSession);
  withTwin = await record(new CopyDevice(), (path) => typicalSession(path, { twinSocket: true }));
});

let before: number;
beforeEach(() => { before = countOpenFds(); });
afterEach(() => { expect(countOpenFds()).toBe(before); });

const session = (file: Uint8Array): RecordedMessage[] => [...readRecording(file).values()][0]!;
const replay = (file: Uint8Array, device: CopyDevice, options: ReplayOptions = {}): Promise<ReplayResult> => serving(device, (path) => replaySession(session(file), path, { timeoutMs: 2000, ...options }));
const texts = (result: ReplayResult): string[] => result.differences.map((difference) => differenceText(1, difference));

describe('a recording', () => {
  it('has every message with its descriptors and its partner', () => {
    const messages = session(capture);
    const text = messages.map(({ captured, header, kind, partner, number }) => `${number} ${captured.from} ${p.commandName(header!.command)} ${kind} ${partner?.number ?? '-'} ${captured.fds.map((fd) => fd.kind).join()}`);
    expect(text).toContain(`${number(text, 'client DMA_MAP command')} client DMA_MAP command ${number(text, 'server DMA_MAP reply')} memfd`);
    expect(text.some((line) => / client DEVICE_SET_IRQS command \d+ eventfd$/.test(line))).toBe(true);
    expect(text.some((line) => / server DMA_READ command \d+ $/.test(line))).toBe(true);
    expect(text.some((line) => / client DMA_WRITE reply \d+ $/.test(line))).toBe(true);
    expect(text.some((line) => / client REGION_WRITE posted - $/.test(line))).toBe(true);
    expect(messages.every(({ captured }) => captured.channel === 'main')).toBe(true);
    expect(session(withTwin).some(({ captured, header }) => captured.channel === 'twin' && header!.command === p.VFIO_USER_DMA_WRITE)).toBe(true);
  });

  const number = (lines: readonly string[], what: string): string => lines.find((line) => line.includes(what))!.split(' ')[0]!;
});

describe('a replay', () => {
  it.each([['one socket', () => capture], ['a twin socket', () => withTwin]])('against the device that was recorded is equal (%s)', async (_name, file) => {
    const result = await replay(file(), new CopyDevice());
    expect(texts(result)).toEqual([]);
    expect(result.sent).toBe(session(file()).filter(({ captured, kind }) => captured.from === 'client' && kind !== 'reply').length);
    expect(result.compared).toBe(session(file()).filter(({ captured, kind }) => captured.from === 'server' && kind === 'reply').length);
  });

  it('shows what differs, field by field, and leaves out what is to be ignored', async () => {
    const counted = new CopyDevice(0, 41);
    const result = await replay(capture, counted);
    expect(texts(result)).toEqual([expect.stringMatching(/^#1 message \d+, REGION_READ\(offset=0x8, region=BAR0, count=4\):\n {2}- data=0x00000001\n {2}\+ data=0x0000002a$/) as string]);
    expect(texts(await replay(capture, new CopyDevice(0, 41), { ignored: [parseIgnored('REGION_READ:BAR0+0x8:4')] }))).toEqual([]);
    expect(texts(await replay(capture, new CopyDevice(0, 41), { ignored: [parseIgnored('REGION_READ')] }))).toEqual([]);
    expect(texts(await replay(capture, new CopyDevice(0, 41), { ignored: [parseIgnored('REGION_READ:BAR0+0x9:3'), parseIgnored('REGION_READ:BAR1+8:4')] }))).toHaveLength(1);
    expect(texts(await replay(capture, new CopyDevice(0, 41), { ignored: [parseIgnored('REGION_READ:+16:1')] }))).toEqual([]);
  });

  it('notices another error, another size, another number of vectors', async () => {
    class Other extends CopyDevice {
      override readonly regions = [{ index: 0, sizeBytes: 0x4000, readable: true, writable: true }, { index: 7, sizeBytes: 256, readable: true, writable: true }];
      override readonly irqs = [];
    }
    const all = texts(await replay(capture, new Other())).join('\n');
    expect(all).toMatch(/DEVICE_SET_IRQS\(.*\):\n {2}- flags=REPLY\n {2}\+ flags=REPLY\|ERROR\n {2}- error=none\n {2}\+ error=EINVAL/);
    expect(all).toMatch(/REGION_READ\(offset=0x2000, region=BAR0, count=4\):\n {2}- flags=REPLY\|ERROR\n {2}\+ flags=REPLY\n/);
  });

  it('notices DMA that was not recorded, and DMA that is missing', async () => {
    class Inverting extends CopyDevice {
      override copied(data: Uint8Array): Uint8Array { return data.map((byte) => ~byte); }
    }
    const different = texts(await replay(capture, new Inverting(), { timeoutMs: 300 })).join('\n');
    expect(different).toContain('the server sends DMA_WRITE(address=0x1100, count=8, data=0xa5a5a5a5a5a5a5a5), which the recording does not have');
    expect(different).toMatch(/DMA_WRITE\(address=0x1100, count=8, data=0x5a5a5a5a5a5a5a5a\): the server does not send it/);
  });

  it('ends when the server hangs up, and after the time-out when it is silent', async () => {
    const path = `/tmp/vfio-user-silent-${process.pid}.sock`;
    const listener = linux.unixListen(path, 4);
    const silent = await replaySession(session(capture).slice(0, 4), path, { timeoutMs: 50 });
    expect(silent.differences.map(({ what }) => what)).toEqual(['the server does not answer', 'the server does not answer']);
    const watch = linux.watch(listener, { readable: true }, () => {
      const fd = linux.unixAccept(listener);
      if (fd !== undefined) linux.close(fd);
    });
    const gone = await replaySession(session(capture), path, { timeoutMs: 2000 });
    watch[Symbol.dispose]();
    linux.close(listener);
    expect(gone.differences).toHaveLength(1);
    expect(gone.differences[0]!.what).toMatch(/hung up|ECONNRESET/);
  });

  it('keeps the recorded pauses if asked to', async () => {
    const slow = [...readCapture(await record(new CopyDevice(), (path) => typicalSession(path)))];
    const first = slow[0]!;
    if (!('bytes' in first)) throw new Error('a message was expected');
    const late = session(capture).map((message, i) => ({ ...message, captured: { ...message.captured, atNs: first.atNs + BigInt(i) * 5_000_000n } }));
    const start = performance.now();
    await serving(new CopyDevice(), (path) => replaySession(late.slice(0, 20), path, { asRecorded: true }));
    expect(performance.now() - start).toBeGreaterThan(80);
  });

  it('refuses descriptors that cannot be made again, and leaves none open', async () => {
    const message: ObservedMessage = { atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'whole', bytes: p.encodeMessage(1, 2, 0, new Uint8Array(32)), size: 48, fds: [{ kind: 'eventfd', sizeBytes: 0, file: 0, name: '' }, { kind: 'device', sizeBytes: 0, file: 1, name: '' }] };
    await expect(replay(Buffer.concat([...captureStart('a', 'b'), captureMessage(message, 0)]), new CopyDevice())).rejects.toThrow('message 1 (DMA_MAP): a descriptor of kind "device" cannot be made again');
    const huge = { ...message, fds: [{ kind: 'memfd' as const, sizeBytes: Number.MAX_SAFE_INTEGER, file: 1, name: '' }, ] };
    const result = replay(Buffer.concat([...captureStart('a', 'b'), captureMessage(huge, 0)]), new CopyDevice());
    await result.catch((error: unknown) => { expect(error).toMatchObject({ code: 'ERR_REPLAY' }); });
  });
});

describe('recordings of anybody\'s making', () => {
  it('are refused with the place, or played; nothing else', async () => {
    const cut = { atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'cut', bytes: p.encodeMessage(1, 10, 0, new Uint8Array(32)), size: 4000, fds: [] } as const;
    expect(() => readRecording(Buffer.concat([...captureStart('a', 'b'), captureMessage(cut, 0)]))).toThrow(/message 1 of session 1 has 4000 bytes, of which 48 were captured/);
    await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.nat(capture.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), async (changes) => {
      const file = Uint8Array.from(capture);
      for (const [at, value] of changes) file[at] = value;
      let messages;
      try {
        messages = [...readRecording(file).values()][0] ?? [];
      } catch (error) {
        expect(error).toBeInstanceOf(CaptureError);
        return;
      }
      try {
        const result = await serving(new CopyDevice(), (path) => replaySession(messages, path, { timeoutMs: 30 }));
        result.differences.forEach((difference) => differenceText(1, difference));
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_REPLAY' });
      }
    }), { numRuns: 60, endOnFailure: true });
  });

  it.each(['', 'REGION_REED', 'REGION_READ:BAR0', 'REGION_READ:BAR9+0:4', 'REGION_WRITE:BAR0+0:4', 'REGION_READ:BAR0+x:4'])('--ignore %j is refused', (text) => {
    expect(() => parseIgnored(text)).toThrow(RangeError);
  });
});
