import { expect } from 'vitest';
import { concat, ERROR, fields, message, REPLY, u64, type RawClient } from '../raw-client.ts';
import { DMA_MAP, DMA_UNMAP, DMA_WRITE, dmaMap, dmaUnmap, EINVAL, ENOENT, feature, FEATURE, LOG_STOP, logStart, PAGE, report, SET } from '../requests.ts';
import { MigratableDevice } from './devices.ts';
import { conformance, type Exchange, type Rig, type Row } from './suite.ts';

/** Region A: 32 pages of a file, of which 16 are asked about. Region B: 16 pages without a descriptor. */
const [A, A_PAGES, B] = [0x10000n, 32, 0x40000n];
const LENGTH = 16n * PAGE;
const at = (page: number): bigint => A + BigInt(page) * PAGE;
const start: Exchange = { send: [FEATURE, logStart(PAGE)], reply: logStart(PAGE) };
const refused = (payload: Uint8Array, errno: number = EINVAL): Exchange => ({ send: [FEATURE, payload], reply: errno });
const given = (): { device: MigratableDevice } => ({ device: new MigratableDevice() });

async function mapA({ client, memfd }: Rig): Promise<void> {
  expect(await client.errno(DMA_MAP, dmaMap(A, BigInt(A_PAGES) * PAGE, 0n), [memfd(A_PAGES * Number(PAGE))])).toBe(0);
}
async function begin(rig: Rig): Promise<void> {
  await mapA(rig);
  expect(await rig.client.errno(FEATURE, logStart(PAGE))).toBe(0);
}
/** The bitmap as a string of bits, the last page first, as people write binary numbers. */
async function dirty(client: RawClient, pageSize: bigint = PAGE, iova: bigint = A, length: bigint = LENGTH): Promise<string> {
  const pages = (length + pageSize - 1n) / pageSize;
  const bytes = 8 * Math.ceil(Number(pages) / 64);
  const reply = await client.request(FEATURE, report(iova, length, pageSize, bytes));
  expect([reply.flags & ERROR, reply.payload.length]).toEqual([0, 32 + bytes]);
  expect(reply.payload.subarray(0, 32)).toEqual(report(iova, length, pageSize, bytes));
  let bits = 0n;
  for (let at = 32 + bytes - 8; at >= 32; at -= 8) bits = (bits << 64n) | u64(reply.payload, at);
  expect(bits >> pages).toBe(0n);
  return bits.toString(2);
}
const write = ({ device }: Pick<Rig, 'device'>, page: number, pages = 1): void => { void device.host!.memory.write(at(page), new Uint8Array(pages * Number(PAGE))); };
const logged = (title: string, run: (rig: Rig) => Promise<void>): Row => ({
  title,
  given,
  run: async (rig) => {
    await begin(rig);
    await run(rig);
  },
});
/** Pages 0 and 6 to 9. */
function writeSome(rig: Rig): void {
  write(rig, 0);
  write(rig, 6, 4);
}

conformance('dirty-pages', {
  L1: { title: 'START with page size 0, or one that is no power of two: EINVAL', given, exchanges: [refused(logStart(0n)), refused(logStart(12288n))] },
  L2: { title: 'START twice: both succeed', given, exchanges: [start, start] },
  L3: { title: 'START with another page size while it is on: EINVAL', given, exchanges: [start, refused(logStart(PAGE / 2n)), refused(logStart(PAGE * 2n))] },
  L4: logged('REPORT of clean memory: zeroes, in whole 64-bit words', async ({ client }) => { expect(await dirty(client)).toBe('0'); }),
  L5: logged('translating alone makes nothing dirty', async ({ client, device }) => {
    expect(device.host!.memory.translate(A, 0x1000, 'write')).toBeDefined();
    expect(await dirty(client)).toBe('0');
  }),
  L6: logged('writes to pages 0 and 6 to 9, by write or by markDirty', async (rig) => {
    writeSome(rig);
    expect(await dirty(rig.client)).toBe('1111000001');
    rig.device.host!.memory.markDirty(at(0), 1);
    rig.device.host!.memory.markDirty(at(6) + 0xfffn, 3 * 0x1000);
    expect(await dirty(rig.client)).toBe('1111000001');
  }),
  L7: logged('REPORT with pages half as large: every bit twice', async (rig) => {
    writeSome(rig);
    writeSome(rig);
    expect(await dirty(rig.client, PAGE / 2n)).toBe('11111111000000000011');
  }),
  L8: logged('REPORT with pages twice as large: either of two', async (rig) => {
    writeSome(rig);
    expect(await dirty(rig.client, 2n * PAGE)).toBe('11001');
  }),
  L9: logged('REPORT with one page for all of it: dirty, then clean', async (rig) => {
    writeSome(rig);
    expect([await dirty(rig.client, LENGTH), await dirty(rig.client, LENGTH)]).toEqual(['1', '0']);
  }),
  L10: logged('reading makes nothing dirty', async ({ client, device }) => {
    void device.host!.memory.read(A, new Uint8Array(0x4000));
    expect(await dirty(client)).toBe('0');
  }),
  L11: logged('the edges of bytes of the bitmap', async (rig) => {
    const cases: [string, readonly (readonly [page: number, pages: number])[]][] = [
      ['1', [[0, 1]]], ['10000000', [[7, 1]]], ['1111111', [[0, 7]]], ['11111111', [[0, 8]]], ['111111111', [[0, 9]]], ['110000000', [[7, 2]]], ['1000000000000000', [[15, 1]]],
    ];
    for (const [bits, writes] of cases) {
      for (const [page, pages] of writes) write(rig, page, pages);
      expect(await dirty(rig.client)).toBe(bits);
    }
    write(rig, 23);
    expect(await dirty(rig.client, PAGE, A, 32n * PAGE)).toBe(`1${'0'.repeat(23)}`);
    write(rig, 22);
    write(rig, 2, 2);
    expect(await dirty(rig.client, PAGE, A, 32n * PAGE)).toBe('10000000000000000001100');
  }),
  L12: logged('REPORT where nothing is mapped: ENOENT', async ({ client }) => { expect(await client.errno(FEATURE, report(0x8000000n, LENGTH, PAGE))).toBe(ENOENT); }),
  L13: logged('REPORT of any range: from inside a region, shorter, over two and the hole between them (better: LVU has whole regions only)', async (rig) => {
    expect(await rig.client.errno(DMA_MAP, dmaMap(at(40), PAGE), [rig.memfd(0x1000)])).toBe(0);
    writeSome(rig);
    expect(await dirty(rig.client, PAGE, at(5), 2n * PAGE)).toBe('10');
    write(rig, 40);
    expect(await dirty(rig.client, PAGE, at(8), 33n * PAGE)).toBe(`1${'0'.repeat(30)}11`);
    expect(await dirty(rig.client)).toBe('10000001');
  }),
  L14: logged('REPORT with a page larger than the range: EINVAL', async ({ client }) => { expect(await client.errno(FEATURE, report(A, LENGTH, 16n << 20n))).toBe(EINVAL); }),
  L15: {
    title: 'REPORT of a region without a descriptor: clean (better: the client executes those writes and logs them itself; LVU refuses)',
    given,
    exchanges: [{ send: [DMA_MAP, dmaMap(B, LENGTH)], reply: 0 }, start],
    run: async ({ client, device }) => {
      const written = Promise.resolve(device.host!.memory.write(B, fields(1)));
      const asked = await client.next();
      client.send(message(asked.id, DMA_WRITE, asked.payload.slice(0, 16), REPLY));
      await written;
      expect(await dirty(client, PAGE, B)).toBe('0');
    },
  },
  L16: logged('STOP, also twice; then there is nothing to report', async ({ client }) => {
    const stop = feature(SET | LOG_STOP, concat(fields(0n, 0, 0)));
    for (let i = 0; i < 2; i++) expect((await client.request(FEATURE, stop)).payload).toEqual(stop);
    expect(await client.errno(FEATURE, report(A, LENGTH, PAGE))).toBe(EINVAL);
  }),
  L17: {
    title: 'REPORT before START: EINVAL; START with no memory yet is fine (better: it may come later)',
    given,
    exchanges: [refused(report(A, LENGTH, PAGE)), start, refused(report(A, LENGTH, PAGE), ENOENT)],
    run: async (rig) => {
      await mapA(rig);
      write(rig, 1);
      expect(await dirty(rig.client)).toBe('10');
    },
  },
  L18: logged('memory unmapped while it is logged: ENOENT for it, the rest still right, and mapped again it is clean', async (rig) => {
    expect(await rig.client.errno(DMA_MAP, dmaMap(B, PAGE), [rig.memfd(0x1000)])).toBe(0);
    writeSome(rig);
    void rig.device.host!.memory.write(B, fields(1));
    expect(await rig.client.errno(DMA_UNMAP, dmaUnmap(A, BigInt(A_PAGES) * PAGE))).toBe(0);
    expect(await rig.client.errno(FEATURE, report(A, LENGTH, PAGE))).toBe(ENOENT);
    expect(await dirty(rig.client, PAGE, B, PAGE)).toBe('1');
    await mapA(rig);
    expect(await dirty(rig.client)).toBe('0');
  }),
});
