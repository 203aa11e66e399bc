/**
 * The client process of the register-rtt table: `node access-client.ts SOCKET KIND`, on an iavf card, with @emudev/vfio-user-client. A line on
 * stdin (milliseconds) is answered by how many accesses of the kind were made in that time.
 */
import { createInterface } from 'node:readline';
import { Window } from '@emudev/dma';
import { VfioUserClient } from '@emudev/vfio-user-client';

const BAR0 = 0;
const CONFIG = 7;
const QTX_TAIL1 = 0x0000;
const VFINT_ITR01 = 0x4c00;
const VFGEN_RSTAT = 0x8800;
/** Accesses between two looks at the clock. */
const BATCH = 64;
const STORES = 1 << 16;

const [socket = '', kind = ''] = process.argv.slice(2);
const client = await VfioUserClient.connect(socket, { spin: true });
const window = Window.open();

/** One batch; returns how many accesses it was. */
async function batchOf(access: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < BATCH; i++) await access();
  return BATCH;
}

const KINDS: Readonly<Record<string, () => Promise<() => Promise<number> | number>>> = {
  'read-4': () => Promise.resolve(() => batchOf(() => client.read32(BAR0, VFGEN_RSTAT))),
  'read-256': () => Promise.resolve(() => batchOf(() => client.read(CONFIG, 0, 256))),
  'read-4096': () => Promise.resolve(() => batchOf(() => client.read(BAR0, 0x8000, 4096))),
  'write-4': () => Promise.resolve(() => batchOf(() => client.write32(BAR0, VFINT_ITR01, 1))),
  // The last one of a batch is waited for: what was posted before it has been done then.
  'posted-4': () => Promise.resolve(async () => {
    for (let i = 1; i < BATCH; i++) void client.write32(BAR0, VFINT_ITR01, i, { posted: true });
    await client.write32(BAR0, VFINT_ITR01, 0);
    return BATCH;
  }),
  store: async () => {
    const place = (await client.mapRegion(BAR0, window)).at(QTX_TAIL1, 4)!;
    return () => {
      for (let i = 0; i < STORES; i++) Atomics.store(window.u32, place >>> 2, i & 0xff);
      return STORES;
    };
  },
};

const batch = await KINDS[kind]!();
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const until = began + Number(line);
  let count = 0;
  while (performance.now() < until) count += await batch();
  console.log(JSON.stringify({ accesses: count, ms: performance.now() - began }));
}
client.close();
