/** Admin queues in memory that answers by message, while the queues are taken away or the function is reset. */
import { AdminFlag, receiveDescriptor } from '@emudev/virtchnl';
import type { PciHost } from '@emudev/pci';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { EchoBackEnd, Mailbox, RAM_IOVA, Rig, settle } from './rig.ts';

/** While `held` is set every access waits for `release`. */
let held = false;
const waiting: (() => void)[] = [];
function release(): void {
  held = false;
  for (const go of waiting.splice(0)) go();
}
async function whenReleased(access: () => unknown): Promise<void> {
  if (held) await new Promise<void>((resolve) => waiting.push(resolve));
  access();
}

let rig: Rig;
let backEnd: EchoBackEnd;
let mailbox: Mailbox;

beforeEach(async () => {
  rig = await Rig.create({
    memory: (space): PciHost['memory'] => ({
      get generation() { return space.generation; },
      iotlb: space.iotlb,
      translate: (...args) => space.translate(...args), pin: (...args) => space.pin(...args), markDirty() {},
      read: (iova, into) => whenReleased(() => space.read(iova, into)),
      write: (iova, from) => whenReleased(() => space.write(iova, from)),
    }),
  });
  backEnd = new EchoBackEnd(rig);
  await settle();
  mailbox = new Mailbox(rig).init();
});
afterEach(async () => {
  release();
  await rig[Symbol.asyncDispose]();
});

it('a function reset waits for the access under way, and what it brings is dropped', async () => {
  held = true;
  mailbox.send(1, Uint8Array.of(1));
  const reset = rig.device.reset();
  await settle();
  expect(backEnd.log).not.toContain('reset function');
  release();
  await reset;
  expect(backEnd.log).toContain('reset function');
  expect({ requests: backEnd.requests, head: rig.read('VF_ATQH1'), status: rig.read('VFGEN_RSTAT') }).toEqual({ requests: [], head: 0, status: 2 });
});

it('a send queue that is disabled while its descriptor is fetched neither completes nor delivers it', async () => {
  held = true;
  const index = mailbox.send(1, Uint8Array.of(1));
  rig.write('VF_ATQLEN1', 0);
  release();
  await settle();
  expect(backEnd.requests).toEqual([]);
  expect(mailbox.sent(index).flags & AdminFlag.DD).toBe(0);
  expect(rig.read('VF_ATQH1')).toBe(0);
});

it('a send queue that is disabled while a completion is stored stays where the guest has put it', async () => {
  mailbox.send(1);
  // The descriptor is read; its completion waits.
  held = true;
  await settle();
  rig.write('VF_ATQLEN1', 0);
  rig.write('VF_ATQH1', 7);
  release();
  await settle();
  expect(backEnd.requests).toEqual([]);
  expect(rig.read('VF_ATQH1')).toBe(7);
});

it('a buffer shorter than the message gets what fits, and the length says so', async () => {
  mailbox.setPosted(0, { ...receiveDescriptor(RAM_IOVA + 0x12000n), dataLength: 4 });
  rig.setRam(0x12000, new Uint8Array(8).fill(0xee));
  mailbox.send(1, Uint8Array.of(1, 2, 3, 4, 5, 6));
  while (!mailbox.hasMessage) await settle();
  expect(mailbox.receive()).toMatchObject([{ payload: Uint8Array.of(1, 2, 3, 4) }]);
  expect(rig.ramBytes(0x12000, 8)).toEqual(Uint8Array.of(1, 2, 3, 4, 0xee, 0xee, 0xee, 0xee));
  expect(rig.device.counters.truncatedMessages).toBe(1);
});
