import { AdminFlag, AdminOpcode, AdminReturn, receiveDescriptor, requestDescriptor, shutdownDescriptor, type AdminDescriptor } from '@emudev/virtchnl';
import { describe, expect, it } from 'vitest';
import { REGION_BAR0 } from '@emudev/pci';
import { EchoBackEnd, Mailbox, RAM_IOVA, Rig, settle, type RigOptions } from './rig.ts';

const AQ_REGISTERS = ['VF_ATQH1', 'VF_ATQT1', 'VF_ATQLEN1', 'VF_ATQBAL1', 'VF_ATQBAH1', 'VF_ARQH1', 'VF_ARQT1', 'VF_ARQLEN1', 'VF_ARQBAL1', 'VF_ARQBAH1'] as const;
const UNMAPPED = 0xdead_0000_0000n;

async function card(options: RigOptions = {}): Promise<{ rig: Rig; backEnd: EchoBackEnd; mailbox: Mailbox } & AsyncDisposable> {
  const rig = await Rig.create(options);
  const backEnd = new EchoBackEnd(rig);
  await settle();
  return { rig, backEnd, mailbox: new Mailbox(rig).init(), [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose]() };
}

describe('admin queues, iavf register and AQ test list', () => {
  it('1: power-on has RSTAT 2, admin registers 0 and unknown offsets 0', async () => {
    await using rig = await Rig.create({ bare: true });
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    for (const name of AQ_REGISTERS) expect(rig.read(name)).toBe(0);
    for (const offset of [0x0040, 0x1000, 0x9000, 0xe000, 0xfffc]) {
      void rig.device.write(REGION_BAR0, offset, Uint8Array.of(1, 2, 3, 4));
      expect(rig.readBytes(REGION_BAR0, offset, 4)).toEqual(new Uint8Array(4));
    }
  });

  it('2: bases, lengths, heads and tails read back; error bits can be cleared', async () => {
    await using rig = await Rig.create();
    for (const [i, name] of AQ_REGISTERS.entries()) rig.write(name, 0x100 + i);
    for (const [i, name] of AQ_REGISTERS.entries()) expect(rig.read(name)).toBe(0x100 + i);
    rig.write('VF_ARQLEN1', 0xf000_0020);
    expect(rig.read('VF_ARQLEN1')).toBe(0xf000_0020);
    rig.write('VF_ARQLEN1', 0x8000_0020);
    expect(rig.read('VF_ARQLEN1')).toBe(0x8000_0020);
  });

  it('3: the first message works though the base was written after the enable bit', async () => {
    await using c = await card();
    c.mailbox.send(1, Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0));
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 1, status: 0 }]);
    expect(c.rig.read('VF_ATQH1')).toBe(1);
  });

  it.each([32, 256])('4: a ring of %i wraps for more than three laps and the head stays inside', async (length) => {
    await using rig = await Rig.create();
    new EchoBackEnd(rig);
    await settle();
    const mailbox = new Mailbox(rig, length).init();
    for (let i = 0; i < 3 * length + 5; i++) {
      mailbox.send(100 + i, Uint8Array.of(i & 0xff));
      expect(rig.read('VF_ATQH1')).toBe((i + 1) % length);
      expect(mailbox.receive()).toMatchObject([{ opcode: 100 + i, payload: Uint8Array.of(i & 0xff) }]);
    }
  });

  it('a full ring of requests does not hold up the event loop', async () => {
    await using rig = await Rig.create();
    const backEnd = new EchoBackEnd(rig);
    await settle();
    const mailbox = new Mailbox(rig, 256).init();
    for (let i = 0; i < 200; i++) mailbox.place(requestDescriptor(100 + i, 0, 0n));
    mailbox.ring();
    const first = rig.read('VF_ATQH1');
    expect(first).toBeLessThanOrEqual(32);
    await settle();
    const second = rig.read('VF_ATQH1');
    expect(second).toBeGreaterThan(first);
    expect(second).toBeLessThanOrEqual(2 * 32);
    while (rig.read('VF_ATQH1') !== 200) await settle();
    expect(mailbox.receive().map((message) => message.opcode)).toEqual(Array.from({ length: 200 }, (_, i) => 100 + i));
    void backEnd;
  });

  it('5: 31 requests behind one doorbell are all answered, in order', async () => {
    await using c = await card();
    for (let i = 0; i < 31; i++) c.mailbox.place(requestDescriptor(100 + i, 0, 0n));
    c.mailbox.ring();
    expect(c.mailbox.receive().map((message) => message.opcode)).toEqual(Array.from({ length: 31 }, (_, i) => 100 + i));
  });

  it('5b: requests are handled one at a time, whatever a handler waits for', async () => {
    await using c = await card();
    const gates = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()];
    c.backEnd.answer = async (request) => {
      await gates[request.opcode - 100]!.promise;
      c.backEnd.reply(request);
    };
    c.mailbox.send(100);
    c.mailbox.send(101);
    gates[1]!.resolve(undefined);
    await settle();
    expect(c.backEnd.requests).toHaveLength(1);
    expect(c.mailbox.receive()).toEqual([]);
    gates[0]!.resolve(undefined);
    await settle();
    expect(c.mailbox.receive().map((message) => message.opcode)).toEqual([100, 101]);
  });

  it('6: without buffers messages wait, and arrive in order once there are', async () => {
    await using c = await card();
    for (let i = 0; i < 40; i++) c.backEnd.channel.send({ kind: 'message', opcode: 100 + i, status: 0, payload: new Uint8Array(0) });
    const first = c.mailbox.receive(Number.POSITIVE_INFINITY, false);
    expect(first).toHaveLength(31);
    const rest: number[] = [];
    // The buffers go back one by one, as a driver does it.
    for (let index = 0; index < 31; index++) {
      c.mailbox.setPosted(index, receiveDescriptor(RAM_IOVA + 0x12000n + BigInt(index * 4096)));
      c.rig.write('VF_ARQT1', index);
      rest.push(...c.mailbox.receive(Number.POSITIVE_INFINITY, false).map((message) => message.opcode));
    }
    expect([...first.map((message) => message.opcode), ...rest]).toEqual(Array.from({ length: 40 }, (_, i) => 100 + i));
    expect(c.rig.device.counters.droppedMessages).toBe(0);
  });

  it('6b: a guest that never reads cannot make the device drop replies: it stops taking requests', async () => {
    await using c = await card();
    for (let i = 0; i < 600; i++) c.mailbox.send(100 + (i % 50));
    expect(c.rig.device.counters.droppedMessages).toBe(0);
    expect(c.backEnd.requests.length).toBeLessThan(400);
    // The ring has lapped itself meanwhile; what the device took is what it answers.
    const taken = c.backEnd.requests.length;
    let received = c.mailbox.receive().length;
    for (let more = c.mailbox.receive().length; more > 0; more = c.mailbox.receive().length) received += more;
    expect(received).toBeGreaterThanOrEqual(taken);
  });

  it('6c: of the link changes that wait only the newest is delivered', async () => {
    await using c = await card();
    for (let i = 0; i < 31; i++) c.backEnd.channel.send({ kind: 'message', opcode: 100, status: 0, payload: new Uint8Array(0) });
    const event = (speed: number): Uint8Array => Uint8Array.of(1, 0, 0, 0, speed, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
    for (const speed of [1, 2, 3]) c.backEnd.channel.send({ kind: 'message', opcode: 17, status: 0, payload: event(speed) });
    c.backEnd.channel.send({ kind: 'message', opcode: 101, status: 0, payload: new Uint8Array(0) });
    c.backEnd.channel.send({ kind: 'message', opcode: 17, status: 0, payload: event(4) });
    const rest = c.mailbox.receive().slice(31);
    expect(rest.map((message) => [message.opcode, message.payload[4]])).toEqual([[101, undefined], [17, 4]]);
  });

  it('7: a completed request keeps its fields and has DD, CMP and retval 0', async () => {
    await using c = await card();
    const index = c.mailbox.send(3, Uint8Array.of(1, 2, 3, 4));
    const before = requestDescriptor(3, 4, RAM_IOVA + 0x10000n);
    expect(c.mailbox.sent(index)).toEqual({ ...before, flags: before.flags | AdminFlag.DD | AdminFlag.CMP });
  });

  it('8: a reply has opcode 0x0802, length, cookies, and LB only above 512 bytes', async () => {
    await using c = await card();
    c.backEnd.channel.send({ kind: 'message', opcode: 9, status: -5, payload: new Uint8Array(0) });
    c.backEnd.channel.send({ kind: 'message', opcode: 10, status: 0, payload: new Uint8Array(512).fill(7) });
    c.backEnd.channel.send({ kind: 'message', opcode: 11, status: 0, payload: new Uint8Array(513).fill(8) });
    const [empty, plain, large] = c.mailbox.receive();
    const done = AdminFlag.DD | AdminFlag.CMP;
    expect(empty!.descriptor).toMatchObject({ opcode: AdminOpcode.SEND_MSG_TO_VF, flags: done, dataLength: 0, returnValue: 0, cookieHigh: 9, cookieLow: -5 });
    expect(plain!.descriptor).toMatchObject({ flags: done | AdminFlag.BUF, dataLength: 512 });
    expect(large!.descriptor).toMatchObject({ flags: done | AdminFlag.BUF | AdminFlag.LB, dataLength: 513 });
    expect(large!.payload).toEqual(new Uint8Array(513).fill(8));
  });

  it('9: queue shutdown just completes; an unknown opcode is ESRCH and reaches nobody', async () => {
    await using c = await card();
    const shutdown = c.mailbox.place(shutdownDescriptor(true));
    const unknown = c.mailbox.place({ ...shutdownDescriptor(false), opcode: 0x0b02 });
    c.mailbox.ring();
    expect(c.mailbox.sent(shutdown)).toMatchObject({ returnValue: 0, flags: AdminFlag.SI | AdminFlag.DD | AdminFlag.CMP });
    expect(c.mailbox.sent(unknown)).toMatchObject({ returnValue: AdminReturn.ESRCH, flags: AdminFlag.SI | AdminFlag.DD | AdminFlag.CMP | AdminFlag.ERR });
    expect(c.rig.read('VF_ATQH1')).toBe(2);
    expect(c.rig.read('VF_ARQH1')).toBe(0);
    expect(c.backEnd.requests).toEqual([]);
  });

  it('10: datalen 0 with BUF, 4096, and more than 4096 (-5, nothing handed up)', async () => {
    await using c = await card();
    c.mailbox.place({ ...requestDescriptor(100, 0, 0n), flags: AdminFlag.BUF | AdminFlag.RD });
    c.mailbox.ring();
    c.mailbox.send(101, new Uint8Array(4096).fill(3));
    const long = c.mailbox.place({ ...requestDescriptor(102, 4097, RAM_IOVA + 0x10000n) });
    c.mailbox.ring();
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 100, status: 0 }, { opcode: 101, status: 0, payload: new Uint8Array(4096).fill(3) }, { opcode: 102, status: -5, payload: new Uint8Array(0) }]);
    expect(c.backEnd.requests.map((request) => request.payload.length)).toEqual([0, 4096]);
    expect(c.mailbox.sent(long).returnValue).toBe(0);
  });

  it('11: an unmapped message buffer is BAD_ADDR, and the queue goes on', async () => {
    await using c = await card();
    const bad = c.mailbox.place(requestDescriptor(100, 8, UNMAPPED));
    c.mailbox.place(requestDescriptor(101, 0, 0n));
    c.mailbox.ring();
    expect(c.mailbox.sent(bad)).toMatchObject({ returnValue: AdminReturn.BAD_ADDR });
    expect(c.mailbox.sent(bad).flags & AdminFlag.ERR).not.toBe(0);
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 101 }]);
    expect(c.rig.errors).toEqual([]);
  });

  it('11b: an unmapped receive buffer uses up its slot with an error; the message takes the next', async () => {
    await using c = await card();
    c.mailbox.setPosted(0, receiveDescriptor(UNMAPPED));
    c.mailbox.send(100, Uint8Array.of(5));
    const [bad, good] = c.mailbox.receive();
    expect(bad!.descriptor).toMatchObject({ returnValue: AdminReturn.BAD_ADDR, cookieHigh: 0 });
    expect(good).toMatchObject({ opcode: 100, payload: Uint8Array.of(5) });
    expect(c.rig.device.counters.badBuffers).toBe(1);
  });

  it('11c: an unmapped ring sets the critical bit; a good one works again after re-initialisation', async () => {
    await using c = await card();
    c.rig.write('VF_ATQBAH1', 0xdead);
    c.mailbox.send(100);
    expect(c.rig.read('VF_ATQLEN1') & 0x4000_0000).not.toBe(0);
    expect(c.rig.read('VF_ATQH1')).toBe(0);
    c.mailbox.init().send(101);
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 101 }]);
    expect(c.rig.read('VF_ATQLEN1')).toBe(0x8000_0020);
  });

  it('12: a tail is ignored while the queue is off, and where it is outside the ring', async () => {
    await using c = await card();
    c.rig.write('VF_ATQLEN1', 32);
    c.mailbox.send(100);
    expect(c.rig.read('VF_ATQH1')).toBe(0);
    c.rig.write('VF_ATQLEN1', 0x8000_0020);
    for (const tail of [32, 33, 0x3ff, 0x401, 0xffff_ffff]) {
      c.rig.write('VF_ATQT1', tail);
      expect(c.rig.read('VF_ATQH1')).toBe(0);
    }
    expect(c.backEnd.requests).toEqual([]);
    c.mailbox.ring();
    expect(c.backEnd.requests).toHaveLength(1);
  });

  it('12b: disabling the receive queue discards what waits', async () => {
    await using c = await card();
    for (let i = 0; i < 35; i++) c.backEnd.channel.send({ kind: 'message', opcode: 100 + i, status: 0, payload: new Uint8Array(0) });
    c.rig.write('VF_ARQLEN1', 0);
    expect(c.rig.device.counters.droppedMessages).toBe(4);
    c.mailbox.init();
    c.mailbox.send(1);
    expect(c.mailbox.receive().map((message) => message.opcode)).toEqual([1]);
  });

  it('13: ICR01 latches with the cause disabled, a read clears it', async () => {
    await using c = await card();
    c.mailbox.send(1);
    expect(c.rig.read('VFINT_ICR0_ENA1')).toBe(0);
    expect(c.rig.read('VFINT_ICR01')).toBe(0x4000_0000);
    expect(c.rig.read('VFINT_ICR01')).toBe(0);
  });

  it('14: RSTAT 0 written by the guest, then RESET_VF, ends at 2', async () => {
    await using c = await card();
    c.rig.write('VFGEN_RSTAT', 0);
    c.mailbox.send(2);
    await settle();
    expect(c.rig.read('VFGEN_RSTAT')).toBe(2);
  });

  it('a message that arrives before a back end is there waits for one', async () => {
    await using rig = await Rig.create();
    const mailbox = new Mailbox(rig).init();
    mailbox.send(1);
    expect(rig.read('VF_ATQH1')).toBe(1);
    new EchoBackEnd(rig);
    await settle();
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('a handler that throws costs its reply and nothing else', async () => {
    await using c = await card();
    c.backEnd.answer = (request) => {
      if (request.opcode === 100) throw new Error('bug');
      c.backEnd.reply(request);
    };
    c.mailbox.send(100);
    c.mailbox.send(101);
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 101 }]);
    expect(c.rig.errors).toMatchObject([{ message: 'bug' }]);
  });

  it('works the same over memory that is reached by message', async () => {
    let accesses = 0;
    await using c = await card({
      memory: (space) => ({
        get generation() { return space.generation; },
        get iotlb() { return space.iotlb; },
        read: async (iova, into) => { accesses++; await settle(); await space.read(iova, into); },
        write: async (iova, from) => { accesses++; await settle(); await space.write(iova, from); },
        translate: () => undefined, pin: () => undefined, markDirty() {},
      }),
    });
    for (let i = 0; i < 5; i++) c.mailbox.place(requestDescriptor(100 + i, 4, RAM_IOVA + 0x10000n));
    c.mailbox.place(requestDescriptor(105, 8, UNMAPPED));
    c.mailbox.ring();
    const received: AdminDescriptor[] = [];
    for (let i = 0; i < 100 && received.length < 5; i++) {
      await settle();
      received.push(...c.mailbox.receive().map((message) => message.descriptor));
    }
    expect(received.map((descriptor) => descriptor.cookieHigh)).toEqual([100, 101, 102, 103, 104]);
    expect(accesses).toBeGreaterThan(20);
  });

  it('quiesce waits for an access under way, and none is made until resume', async () => {
    const held: (() => void)[] = [];
    await using c = await card({
      memory: (space) => ({
        get generation() { return space.generation; },
        get iotlb() { return space.iotlb; },
        read: async (iova, into) => { await new Promise<void>((resolve) => { held.push(resolve); }); await space.read(iova, into); },
        write: (iova, from) => space.write(iova, from),
        translate: () => undefined, pin: () => undefined, markDirty() {},
      }),
    });
    c.mailbox.send(1);
    expect(held).toHaveLength(1);
    let quiet = false;
    const quiescing = c.rig.device.quiesce('dma-map').then(() => { quiet = true; });
    await settle();
    expect(quiet).toBe(false);
    held.shift()!();
    await quiescing;
    await settle();
    expect(c.rig.read('VF_ATQH1')).toBe(0);
    c.rig.device.resume();
    for (let i = 0; i < 10; i++) {
      await settle();
      held.shift()?.();
    }
    expect(c.mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });
});
