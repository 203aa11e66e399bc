import * as dma from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import { expect, it } from 'vitest';
import * as layout from '../src/layout.ts';

/** AssemblyScript that is TypeScript too once its types are stripped; the specifier is a variable so that tsc leaves it alone. */
const mirrorFile = '../src/kernels/layout.ts';

it('the kernels use the offsets of layout.ts, the IOTLB and the frame record', async () => {
  const mirror = (await import(/* @vite-ignore */ mirrorFile)) as Record<string, number>;
  const source = { ...dma, ...ethdev, ...layout } as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(mirror)) expect([name, value]).toEqual([name, Number(source[name]) >>> 0]);
  const numbers = Object.keys(layout).filter((name) => typeof (layout as Record<string, unknown>)[name] === 'number');
  expect(numbers.filter((name) => !(name in mirror))).toEqual([]);
});

it('no field of a block overlaps the next', () => {
  const fields = (prefix: string, sizes: Record<string, number>): void => {
    const ends = Object.entries(sizes).map(([name, size]) => [(layout as Record<string, unknown>)[prefix + name] as number, size] as const);
    ends.sort((a, b) => a[0] - b[0]);
    ends.forEach(([at, size], n) => expect(at + size).toBeLessThanOrEqual(ends[n + 1]?.[0] ?? (layout as Record<string, unknown>)[`${prefix}BYTES`] as number));
  };
  fields('Q_', {
    ENABLED: 4, RING: 4, LENGTH: 4, HEAD: 4, DOORBELL: 4, VECTOR: 4, FAULT: 4, BUFFER: 4, MAX_PACKET: 4, STAGE: 4, TSO_OFFSET: 4,
    TSO_TOTAL: 4, TSO_STATE: 8, LENT: 4, STATS: 64, BAD_BUFFERS: 4, ITR: 4, RX_ADDRESSES: 40, BOUNCED: 4, SHORT: 4,
  });
  fields('DEV_', {
    PAUSED: 4, IOTLB: 4, FLAGS: 4, MAX_FRAME: 4, QUEUE_PAIRS: 4, PEER_TX_CAPS: 4, MAC_TABLE: 4, VLAN_BITMAP: 4, RSS_TABLE: 4,
    TX_BLOCKS: 4, RX_BLOCKS: 4, RX_KICK: 4, HENA: 8, LUT: 64, TX_LOCK: 4, STATS: 128,
  });
});
