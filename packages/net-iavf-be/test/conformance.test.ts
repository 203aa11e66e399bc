/** The port, and the back end behind it, as the suites of their classes want them. */
import { attribute } from '@emudev/emudev';
import { describe, test } from 'vitest';
import { ATTR_LINK, ATTR_MAC, ATTR_QUEUE_PAIRS, ATTR_RESET_STATE, IAVF_CONTRACT, IAVF_CONTRACT_VERSION, MAILBOX, rxQueueId, txQueueId, type LinkState } from '@emudev/iavf-emu/contract';
import { backendConformance, FakeEmudev, FrameBench, portConformance, TEST_RAM_IOVA, type FakeEmudevSpec } from '@emudev/testkit';
import { encodeConfigVsiQueues, encodeGetVfResources, encodeQueueSelect, Opcode } from '@emudev/virtchnl';
import { IavfBackEndPort } from '@emudev/net-iavf-be';
import { LINUX_CAPABILITIES, MAC, RAM_IOVA, pair } from './card.ts';

const PAIRS = 2;
const TX_RING = pair(0).tx.ringAddress;
const TX_RING_LENGTH = 64;
const BUFFER = TEST_RAM_IOVA + 0x8_0000n;
const FRAME_BYTES = 60;
/** End of packet, report status; length from bit 34. */
const TX_COMMAND: bigint = (0x3n << 4n) | (BigInt(FRAME_BYTES) << 34n);

function family(): FakeEmudevSpec {
  let [mac, link, queuePairs]: [Uint8Array, LinkState, number] = [MAC, { up: false, speedMbps: 10_000 }, PAIRS];
  return {
    devType: IAVF_CONTRACT.devType, contractVersion: IAVF_CONTRACT_VERSION, maxQueuePairs: PAIRS, numVectors: PAIRS + 1,
    attributes: [
      attribute(ATTR_MAC, { get: () => mac, set: (value) => { mac = value; } }),
      attribute(ATTR_LINK, { get: () => link, set: (value) => { link = value; } }),
      attribute(ATTR_QUEUE_PAIRS, { get: () => queuePairs, set: (value) => { queuePairs = value; } }),
      attribute(ATTR_RESET_STATE, { get: () => 2 }),
    ],
    channels: { [MAILBOX.name]: () => {} },
    doorbells: Object.fromEntries(Array.from({ length: PAIRS }, (_, n) => [[txQueueId(n), 'mem'], [rxQueueId(n), 'mem']] as const).flat()),
  };
}

describe('back end', () => {
  const request = (fake: FakeEmudev, opcode: number, payload: Uint8Array): Promise<void> => fake.deliver(MAILBOX.name, { opcode, payload });
  const tails = new WeakMap<FakeEmudev, number>();

  const suite = backendConformance({
    family,
    open: async (emudev) => {
      const port = await IavfBackEndPort.open('net_iavf_be0', emudev);
      await port.configure({ rxQueues: PAIRS, txQueues: 1, peerTxCapabilities: 0 });
      await port.start();
      return port;
    },
    guest: {
      /** As far as a driver must go until it can transmit. */
      async setUp(fake) {
        await request(fake, Opcode.GET_VF_RESOURCES, encodeGetVfResources(LINUX_CAPABILITIES));
        await request(fake, Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({ vsiId: 1, pairs: [pair(0)] }));
        await request(fake, Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues: 1, rxQueues: 1 }));
        tails.set(fake, 0);
      },
      /** Transmits one frame; the lcore is us. Served: it has come out of the port. */
      async act(fake, port) {
        const at = tails.get(fake) ?? 0;
        tails.set(fake, (at + 1) % TX_RING_LENGTH);
        const descriptor = new DataView(new ArrayBuffer(16));
        descriptor.setBigUint64(0, BUFFER, true);
        descriptor.setBigUint64(8, TX_COMMAND, true);
        if (fake.memory.regions().length > 0) fake.memory.poke(TX_RING + BigInt(16 * at), new Uint8Array(descriptor.buffer));
        fake.doorbell(txQueueId(0)).ring((at + 1) % TX_RING_LENGTH);
        using bench = new FrameBench();
        const datapath = await bench.load(port);
        return bench.receive(datapath, 0).length > 0;
      },
    },
  });
  for (const { title, run } of suite) test(title, run);
  if (RAM_IOVA !== TEST_RAM_IOVA) throw new Error('rings of pair() do not lie in the memory of the fake');
});

describe('port', () => {
  for (const { title, run } of portConformance(async (name) => {
    const fake = new FakeEmudev(family());
    await fake.ready();
    return { port: await IavfBackEndPort.open(name, fake.emudev), dispose: () => fake[Symbol.asyncDispose]() };
  }, {
    // The guest has no queues: nothing of what is sent reaches it.
    alsoCounted: (port) => port.stats().imissed + port.xstats().get('tx_filtered_packets')!,
  })) test(title, run);
});
