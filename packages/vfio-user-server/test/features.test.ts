/** DEVICE_FEATURE beyond the rules of the conformance suite: who has which feature, and what hostile requests get. */
import type { Migration } from '@emudev/pci';
import { describe, expect, it } from 'vitest';
import { FakeDevice, serve } from './fixture.ts';
import { concat, ERROR, fields, u32, type RawClient } from './raw-client.ts';
import { DMA_MAP, dmaMap, EINVAL, ENOENT, ENOSPC, feature, FEATURE, GET, info, GET_INFO, LOG_REPORT, LOG_START, LOG_STOP, logStart, MIG_STATE, MIGRATION, PAGE, PROBE, report, SET, setState, STOP } from './requests.ts';

const migration: Migration = { preCopy: false, peerToPeer: false, enter: () => undefined, readState: () => 0, writeState: () => undefined };

class FeaturedDevice extends FakeDevice {
  readonly tracksDirtyPages: boolean;
  readonly migration?: Migration;
  constructor(has: { migration?: boolean; log?: boolean }) {
    super();
    this.tracksDirtyPages = has.log === true;
    if (has.migration === true) this.migration = migration;
  }
}
const all = (): FeaturedDevice => new FeaturedDevice({ migration: true, log: true });
const nothing = new Uint8Array(0);
const errno = (client: RawClient, payload: Uint8Array): Promise<number> => client.errno(FEATURE, payload);

describe('a device has', () => {
  const questions = [MIGRATION, MIG_STATE, LOG_START, LOG_STOP, LOG_REPORT];
  it.each<[string, { migration?: boolean; log?: boolean }, number[]]>([
    ['nothing', {}, []],
    ['migration only', { migration: true }, [MIGRATION, MIG_STATE]],
    ['a log only', { log: true }, [LOG_START, LOG_STOP, LOG_REPORT]],
    ['both', { migration: true, log: true }, questions],
  ])('%s, and nothing else: EINVAL, by PROBE and by request', async (_name, has, features) => {
    await using s = await serve({ device: new FeaturedDevice(has) });
    const found: number[] = [];
    for (let n = 0; n < 64; n++) if ((await errno(s.client, feature(PROBE | n))) === 0) found.push(n);
    expect(found).toEqual(features);
    for (const [n, payload] of [[MIGRATION, feature(GET | MIGRATION, nothing, 16)], [MIG_STATE, setState(STOP)], [LOG_START, logStart(PAGE)]] as const) {
      expect([n, await errno(s.client, payload)]).toEqual([n, features.includes(n) ? 0 : EINVAL]);
    }
  });

  it('a log of dirty pages only if it says that it tracks them', async () => {
    await using s = await serve({ device: new FakeDevice() });
    expect(await errno(s.client, logStart(PAGE))).toBe(EINVAL);
  });
});

describe('operations', () => {
  it.each([
    [MIGRATION, 'GET', [GET]], [MIG_STATE, 'GET and SET', [GET, SET, GET | SET]], [LOG_START, 'SET', [SET]], [LOG_STOP, 'SET', [SET]], [LOG_REPORT, 'GET', [GET]],
  ])('PROBE of feature %i says yes to %s, and to nothing else', async (n, _name, possible) => {
    await using s = await serve({ device: all() });
    for (const operations of [GET, SET, GET | SET]) expect([operations, await errno(s.client, feature(PROBE | operations | n))]).toEqual([operations, possible.includes(operations) ? 0 : EINVAL]);
  });

  it('none, unknown ones, and GET together with SET are EINVAL', async () => {
    await using s = await serve({ device: all() });
    for (const flags of [MIGRATION, 0x80000 | MIGRATION, 0x80000000 | GET | MIGRATION, GET | SET | MIG_STATE]) expect(await errno(s.client, feature(flags, fields(0n), 64))).toBe(EINVAL);
  });

  it('PROBE changes nothing, whatever comes along, and gets every byte of it back', async () => {
    await using s = await serve({ device: all() });
    s.device.take();
    const payload = feature(PROBE | SET | MIG_STATE, concat(fields(STOP, 0xffffffff), Uint8Array.from({ length: 301 }, (_, i) => i)));
    expect((await s.client.request(FEATURE, payload)).payload).toEqual(payload);
    expect(await errno(s.client, feature(PROBE | SET | LOG_START))).toBe(0);
    expect(s.device.take()).toEqual([]);
    expect(await errno(s.client, report(0n, PAGE, PAGE))).toBe(EINVAL);
  });

  it('SET gets every byte back, too; GET says how long its answer really is', async () => {
    await using s = await serve({ device: all() });
    const set = feature(SET | MIG_STATE, fields(STOP, 7, 0xabcdefn), 4096);
    expect((await s.client.request(FEATURE, set)).payload).toEqual(set);
    const got = (await s.client.request(FEATURE, feature(GET | MIG_STATE, new Uint8Array(100), 1 << 20))).payload;
    expect(got).toEqual(fields(16, GET | MIG_STATE, STOP, 0xffffffff));
  });
});

/** Nothing of it may do more than fail: the next request is served. */
describe('hostile requests', () => {
  const top = (1n << 64n) - 1n;
  it.each<[string, Uint8Array, number?]>([
    ['no payload', nothing],
    ['half a head', fields(8)],
    ['an argsz below the head', feature(GET | MIGRATION, nothing, 7)],
    ['SET STATE without a state', feature(SET | MIG_STATE, nothing, 16)],
    ['SET STATE with half a state', feature(SET | MIG_STATE, fields(STOP), 16)],
    ['SET STATE without room for the echo', feature(SET | MIG_STATE, fields(STOP, 0xffffffff), 15)],
    ['GET STATE without room', feature(GET | MIG_STATE, nothing, 15)],
    ['GET MIGRATION without room', feature(GET | MIGRATION, nothing, 15)],
    ['START without data', feature(SET | LOG_START, nothing, 64)],
    ['START with half its data', feature(SET | LOG_START, fields(PAGE), 64)],
    ['START without room for the echo', feature(SET | LOG_START, fields(PAGE, 0, 0), 23)],
    ['START with fewer ranges than it says', feature(SET | LOG_START, fields(PAGE, 2, 0, 0n, PAGE))],
    ['START with 2^32 - 1 ranges', feature(SET | LOG_START, fields(PAGE, 0xffffffff, 0, 0n, PAGE))],
    ['START with 257 ranges', logStart(PAGE, Array.from({ length: 257 }, (_, i) => [BigInt(i) << 20n, PAGE] as const))],
    ['START with an empty range', logStart(PAGE, [[0n, 0n]])],
    ['START with a range past 2^64', logStart(PAGE, [[top, 2n]])],
    ['START with a page of 0', logStart(0n)],
    ['START with a page of 2^64 - 1', logStart(top)],
    ['REPORT without data', feature(GET | LOG_REPORT, nothing, 4096)],
    ['REPORT with all but a byte of its data', feature(GET | LOG_REPORT, new Uint8Array(23).fill(1), 4096)],
    ['REPORT with a page of 0', report(0n, PAGE, 0n)],
    ['REPORT with a page of 3', report(0n, PAGE, 3n)],
    ['REPORT with a page larger than the range', report(0n, PAGE, 2n * PAGE)],
    ['REPORT of nothing', report(0n, 0n, 1n)],
    ['REPORT past 2^64', report(top, 2n, 1n)],
    ['REPORT of everything in bytes', report(0n, top, 1n, 0xffff0000)],
    ['REPORT of everything in pages', report(0n, top, PAGE, 0xffff0000)],
    ['REPORT with a bitmap beyond 1 MiB', report(0n, 1n << 35n, PAGE, 1 << 20)],
    ['REPORT without room for the bitmap', report(0n, 1n << 30n, PAGE, (1 << 15) - 1)],
    ['REPORT where nothing is mapped', report(1n << 40n, PAGE, PAGE), ENOENT],
  ])('%s', async (_name, payload, expected = EINVAL) => {
    await using s = await serve({ device: all() });
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE))).toBe(0);
    for (let logging = 0; logging < 2; logging++) {
      // Before logging starts, a report is refused for that reason.
      const reply = await errno(s.client, payload);
      expect([EINVAL, ENOENT, ENOSPC]).toContain(reply);
      if (logging === 1) expect(reply).toBe(expected);
      expect(await errno(s.client, logStart(PAGE))).toBe(0);
    }
    expect(u32((await s.client.request(FEATURE, feature(GET | MIG_STATE, nothing, 16))).payload, 8)).toBe(2);
    expect((await s.client.request(GET_INFO, info)).flags & ERROR).toBe(0);
    expect(s.server.session?.counters.unexpectedErrors).toBe(0);
  });

  it('a range of 2^64 - 1 bytes in pages of 2^60 is a question like any other', async () => {
    await using s = await serve({ device: all() });
    expect(await s.client.errno(DMA_MAP, dmaMap(top - 0xfffn, PAGE))).toBe(0);
    expect(await errno(s.client, logStart(PAGE, [[0n, top]]))).toBe(0);
    const reply = await s.client.request(FEATURE, report(0n, top, 1n << 60n));
    expect(reply.payload).toEqual(concat(report(0n, top, 1n << 60n), new Uint8Array(8)));
  });
});
