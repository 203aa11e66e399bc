import { REGION_BAR0, REGION_CONFIG } from '@emudev/pci';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ATTR_LINK, ATTR_MAC, ATTR_QUEUE_PAIRS, ATTR_RESET_STATE } from '../src/contract.ts';
import { RESET_SETTLE_MS } from '../src/limits.ts';
import { EchoBackEnd, Mailbox, Rig, settle } from './rig.ts';

let rig: Rig;
let backEnd: EchoBackEnd;
let mailbox: Mailbox;

beforeEach(async () => {
  rig = await Rig.create();
  backEnd = new EchoBackEnd(rig);
  await settle();
  mailbox = new Mailbox(rig).init();
  backEnd.log.length = 0;
});
afterEach(async () => {
  vi.useRealTimers();
  await rig[Symbol.asyncDispose]();
});

const flr = (): void | Promise<void> => rig.device.write(REGION_CONFIG, 0xa8, Uint8Array.of(0, 0x80));
const newMac = Uint8Array.of(2, 0, 0, 0, 0, 9);

describe('RESET_VF', () => {
  it('clears both admin queues, tells the back end in a lock, and ends active; no reply', async () => {
    rig.write('QTX_TAIL1', 7, 2);
    rig.write('VFINT_DYN_CTLN1', 0x19, 1);
    mailbox.send(2);
    expect(rig.read('VF_ARQLEN1')).toBe(0);
    expect(rig.read('VF_ATQLEN1')).toBe(0);
    await settle();
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    expect(backEnd.log).toEqual(['lock', 'reset family', 'unlock']);
    expect([rig.read('QTX_TAIL1', 2), rig.read('VFINT_DYN_CTLN1', 1), rig.read('VF_ARQH1'), rig.read('VF_ATQH1')]).toEqual([0, 0, 0, 0]);
    expect(rig.device.counters.deliveredMessages).toBe(0);
  });

  it('RSTAT is 0 and writes are ignored while the back end is at it', async () => {
    const done = Promise.withResolvers<undefined>();
    backEnd.reset = async () => { await done.promise; };
    mailbox.send(2);
    await settle();
    expect(rig.read('VFGEN_RSTAT')).toBe(0);
    expect(rig.emudev.getAttr(ATTR_RESET_STATE)).toBe(0);
    mailbox.init();
    expect(rig.read('VF_ATQLEN1')).toBe(0);
    done.resolve(undefined);
    await settle();
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    mailbox.init().send(1);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('drops the requests behind it and the replies before it', async () => {
    for (let i = 0; i < 40; i++) backEnd.channel.send({ kind: 'message', opcode: 100, status: 0, payload: new Uint8Array(0) });
    mailbox.send(2);
    await settle();
    expect(rig.device.counters.droppedMessages).toBe(9);
    mailbox.init();
    for (const opcode of [1, 2, 15]) mailbox.send(opcode);
    await settle();
    expect(backEnd.requests.map((request) => request.opcode)).toEqual([2, 1, 2]);
    mailbox.init().send(3);
    expect(mailbox.receive().map((message) => message.opcode)).toEqual([3]);
  });

  it('a second one while resetting is ignored', async () => {
    backEnd.answer = () => {
      backEnd.channel.send({ kind: 'reset' });
      backEnd.channel.send({ kind: 'reset' });
    };
    mailbox.send(2);
    await settle();
    expect(backEnd.log).toEqual(['lock', 'reset family', 'unlock']);
  });

  it('a tail written into the dead queue is ignored (remove right after reset)', async () => {
    mailbox.send(2);
    await settle();
    mailbox.send(2);
    await settle();
    expect(backEnd.log).toHaveLength(3);
  });

  it('keeps bus mastering and MSI-X', async () => {
    void rig.device.write(REGION_CONFIG, 0x72, Uint8Array.of(0, 0x80));
    mailbox.send(2);
    await settle();
    expect(rig.readBytes(REGION_CONFIG, 4, 1)[0]! & 4).toBe(4);
    expect(rig.readBytes(REGION_CONFIG, 0x73, 1)[0]! & 0x80).toBe(0x80);
  });

  it('waits for the resume when it comes while the consumer changes its memory', async () => {
    await rig.device.quiesce('dma-map');
    backEnd.channel.send({ kind: 'reset' });
    await settle();
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    expect(backEnd.log).toEqual(['lock']);
    rig.device.resume();
    expect(rig.read('VFGEN_RSTAT')).toBe(0);
    await settle();
    expect(backEnd.log).toEqual(['lock', 'unlock', 'lock', 'reset family', 'unlock']);
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
  });
});

describe('function level reset', () => {
  it.each(['config write', 'device reset'])('by %s restores the power-on state, and the write waits for it', async (how) => {
    rig.emudev.setAttr(ATTR_MAC, newMac);
    rig.emudev.setAttr(ATTR_QUEUE_PAIRS, 2);
    rig.emudev.setAttr(ATTR_LINK, { up: true, speedMbps: 10_000 });
    await (how === 'config write' ? flr() : rig.device.reset());
    expect(backEnd.log).toEqual(['lock', 'reset function', 'unlock']);
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    expect(rig.read('VF_ATQLEN1')).toBe(0);
    expect(rig.readBytes(REGION_CONFIG, 4, 2)).toEqual(new Uint8Array(2));
    // How the card was provisioned is not the guest's to lose.
    expect(rig.emudev.getAttr(ATTR_MAC)).toEqual(newMac);
    expect(rig.emudev.getAttr(ATTR_QUEUE_PAIRS)).toBe(2);
    expect(rig.emudev.getAttr(ATTR_LINK).up).toBe(true);
  });

  it('leaves mappings and interrupt descriptors, so that the guest goes on after bus master on', async () => {
    await flr();
    mailbox.init().send(1);
    expect(rig.read('VF_ATQH1')).toBe(0);
    await rig.busMaster(true);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
    rig.write('VFINT_ICR0_ENA1', 0x4000_0000);
    rig.write('VFINT_DYN_CTL01', 0x19);
    expect(rig.interrupts()).toBe(1);
  });

  it('within the transport\'s bracket joins it, and voids a RESET_VF that waits', async () => {
    await rig.device.quiesce('reset');
    backEnd.channel.send({ kind: 'reset' });
    await rig.device.reset();
    rig.device.resume();
    await settle();
    expect(backEnd.log).toEqual(['lock', 'reset function', 'unlock']);
  });

  it('after RESET_VF in progress comes when that is done', async () => {
    const done = Promise.withResolvers<undefined>();
    const kinds: string[] = [];
    backEnd.reset = async (kind: string) => {
      kinds.push(kind);
      if (kind === 'family') await done.promise;
    };
    mailbox.send(2);
    await settle();
    const reset = flr();
    await settle();
    expect(kinds).toEqual(['family']);
    done.resolve(undefined);
    await reset;
    expect(kinds).toEqual(['family', 'function']);
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
  });

  it('a reply of before never reaches the guest, though its handler finishes later', async () => {
    const late = Promise.withResolvers<undefined>();
    backEnd.answer = async (request) => {
      await late.promise;
      backEnd.reply(request);
    };
    mailbox.send(15);
    const reset = rig.device.reset();
    await settle();
    late.resolve(undefined);
    await reset;
    await rig.busMaster(true);
    mailbox.init();
    await settle();
    expect(mailbox.receive()).toEqual([]);
    mailbox.send(1);
    await settle();
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('does not wait for a stuck handler for ever; what it answers in the end is dropped', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const late = Promise.withResolvers<undefined>();
    backEnd.answer = async (request) => {
      await late.promise;
      backEnd.reply(request);
    };
    mailbox.send(15);
    const reset = rig.device.reset();
    await vi.advanceTimersByTimeAsync(RESET_SETTLE_MS);
    await reset;
    expect(rig.errors).toMatchObject([{ code: 'EMUDEV_TRANSPORT' }]);
    await rig.busMaster(true);
    mailbox.init();
    late.resolve(undefined);
    await settle();
    expect(mailbox.receive()).toEqual([]);
  });

  it('a back end whose hook throws does not keep the device in reset', async () => {
    backEnd.reset = () => { throw new Error('bug'); };
    await rig.device.reset();
    expect(rig.read('VFGEN_RSTAT')).toBe(2);
    expect(rig.errors).toMatchObject([{ message: 'bug' }]);
  });
});

describe('the consumer', () => {
  it('leaving resets the card and tells the back end; the next one finds it as new', async () => {
    rig.write('QRX_TAIL1', 5, 1);
    await rig.disconnect();
    expect(backEnd.log).toEqual(['lock', 'reset consumer-left', 'destroyed', 'unlock']);
    expect(rig.emudev.consumer).toBe('absent');
    expect(() => rig.emudev.memTable()).toThrowError(expect.objectContaining({ code: 'EMUDEV_NOT_READY' }));
    backEnd.log.length = 0;
    await rig.connect();
    expect(rig.read('QRX_TAIL1', 1)).toBe(0);
    await rig.map();
    await rig.busMaster(true);
    expect(backEnd.log.at(-1)).toBe('ready');
    mailbox.init().send(1);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('changing memory and interrupts reaches the back end between lock and unlock', async () => {
    await rig.change('dma-map', () => { rig.device.memoryChanged(); });
    await rig.assign(2, -1);
    expect(backEnd.log).toEqual(['lock', 'updated dma', 'unlock', 'lock', 'updated irqs', 'unlock']);
  });

  it('a back end that cannot lock makes quiesce fail, and the device goes on', async () => {
    vi.spyOn(backEnd, 'lock').mockRejectedValueOnce(new Error('stuck lcore'));
    await expect(rig.device.quiesce('dma-unmap')).rejects.toThrow('stuck lcore');
    rig.device.resume();
    mailbox.send(1);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('bus mastering off stops requests and locks the back end; both go on when it is back', async () => {
    await rig.busMaster(false);
    mailbox.send(1);
    expect(rig.read('VF_ATQH1')).toBe(0);
    await rig.change('dma-map', () => { rig.device.memoryChanged(); });
    await rig.emudev.configure({});
    await rig.emudev.start();
    expect(backEnd.log).toEqual(['lock', 'updated dma']);
    await rig.busMaster(true);
    expect(backEnd.log).toEqual(['lock', 'updated dma', 'unlock']);
    expect(mailbox.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('no request reaches the back end before it is ready', async () => {
    await using late = new Rig();
    const slow = Promise.withResolvers<undefined>();
    const other = new EchoBackEnd(late);
    vi.spyOn(other, 'ready').mockReturnValue(slow.promise as never);
    await late.connect();
    await late.map();
    await late.busMaster(true);
    const guest = new Mailbox(late).init();
    guest.send(1);
    expect(other.requests).toEqual([]);
    slow.resolve(undefined);
    await settle();
    expect(guest.receive()).toMatchObject([{ opcode: 1 }]);
  });

  it('closing the emudev under a consumer tells the back end and leaves a dead device, not a broken process', async () => {
    await rig.emudev.close();
    expect(backEnd.log).toEqual(['lock', 'reset consumer-left', 'destroyed', 'unlock']);
    expect(rig.readBytes(REGION_BAR0, 0x8800, 4)).toEqual(new Uint8Array(4).fill(0xff));
    mailbox.send(1);
    await rig.device.reset();
  });
});
