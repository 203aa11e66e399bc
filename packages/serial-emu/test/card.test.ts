import { describe, expect, test } from 'vitest';
import { EmudevRegistry, VdevBus } from '@emudev/emudev';
import { IRQ_MSI } from '@emudev/pci';
import { ATTR_PORTS, countersAttr, driver, farEndAttr, lineSettingsAttr, MAX_TRANSMIT_CREDIT, SERIAL_CONTRACT, SerialCard, serialPort, type SerialToBackEnd } from '../src/index.ts';
import { BackEnd, DATA, FCR, IER, IIR, LCR, LSR, MCR, MSR, Rig } from './rig.ts';

const CONFIG = 7;

describe('the function', () => {
  test('configuration space is that of the sample device, with MSI added', async () => {
    const { card } = new Rig(2);
    const config = new Uint8Array(256);
    await card.read(CONFIG, 0, config);
    const hex = Buffer.from(config).toString('hex');
    expect(hex.slice(0, 32)).toBe('48435332000010001002000700000000');
    expect(hex.slice(32, 48)).toBe('0100000001000000');
    expect(hex.slice(0x2c * 2, 0x30 * 2)).toBe('48435332');
    expect(config[0x3d]).toBe(1);
    expect(Buffer.from(config.subarray(0x60, 0x6f)).toString()).toBe('PCI Serial/UART');
    await card.write(CONFIG, 0x10, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
    await card.read(CONFIG, 0x10, config.subarray(0, 4));
    expect(Buffer.from(config.subarray(0, 4)).toString('hex')).toBe('f9ffffff');
    expect([config[config[0x34]!], card.regions.map(({ index, sizeBytes }) => [index, sizeBytes])]).toEqual([5, [[0, 8], [1, 8], [7, 256]]]);
  });

  test('one port or two, no more', () => {
    for (const ports of [0, 3, 1.5]) expect(() => new SerialCard({ name: 'emu_serial0', ports }, new EmudevRegistry())).toThrow(RangeError);
    expect(new Rig(1).card.emudev.getAttr(ATTR_PORTS)).toBe(1);
    expect(() => new Rig(1).card.emudev.channel(serialPort(1))).toThrow(expect.objectContaining({ code: 'EMUDEV_NO_CHANNEL' }));
  });

  test('accesses wider than a byte are as many of a byte', async () => {
    const r = await Rig.started();
    await r.card.write(0, LCR, Uint8Array.of(0x03, 0x03));
    const into = new Uint8Array(8);
    await r.card.read(0, 0, into);
    expect([...into]).toEqual([0, 0, 1, 3, 3, 0x60, 0, 0]);
  });

  test('--vdev makes it, and closes it', async () => {
    const bus = new VdevBus().register(driver);
    const { device } = await bus.probe('emu_serial7,ports=2');
    expect(bus.registry.byName('emu_serial7')?.info).toMatchObject({ devType: SERIAL_CONTRACT.devType, contractVersion: SERIAL_CONTRACT.version });
    expect(device.name).toBe('emu_serial7');
    await expect(bus.probe('emu_serial8,ports=3')).rejects.toMatchObject({ code: 'EMUDEV_BAD_ARG' });
    await bus[Symbol.asyncDispose]();
    expect(bus.registry.byName('emu_serial7')).toBeUndefined();
  });
});

describe('INTx', () => {
  test('is the level of both ports together: it goes when the last of them has nothing more', async () => {
    const r = await Rig.started(2);
    const [a, b] = [new BackEnd(r, 0), new BackEnd(r, 1)];
    for (const bar of [0, 1]) r.write(IER, 1, bar);
    a.send(1);
    b.send(2);
    expect(r.host.intx).toBe(true);
    expect([r.read(DATA, 0), r.host.intx, r.read(IIR, 1), r.read(DATA, 1), r.host.intx]).toEqual([1, true, 4, 2, false]);
    b.send(3);
    expect(r.host.intx).toBe(true);
    r.write(IER, 0, 1);
    expect(r.host.intx).toBe(false);
  });

  test('is held back by COMMAND, and shown in STATUS all the same', async () => {
    const r = await Rig.started();
    await r.card.write(CONFIG, 4, Uint8Array.of(0, 4));
    r.write(IER, 2);
    expect([r.host.intx, r.card.config.command.intxDisabled]).toEqual([false, true]);
    await r.card.write(CONFIG, 4, Uint8Array.of(0, 0));
    expect(r.host.intx).toBe(true);
  });
});

describe('MSI', () => {
  async function withMsi(): Promise<Rig> {
    const r = await Rig.started(2);
    await r.card.quiesce('irqs');
    r.host.msi = true;
    r.card.irqsChanged(IRQ_MSI, 0, 1);
    r.card.resume();
    return r;
  }

  test('one message for each cause that arises, in either port, also while another is pending; the pin rests', async () => {
    const r = await withMsi();
    const [a, b] = [new BackEnd(r, 0), new BackEnd(r, 1)];
    for (const bar of [0, 1]) r.write(IER, 3, bar);
    expect(r.host.messages).toBe(2);
    a.send(1);
    expect(r.host.messages).toBe(3);
    b.send(1);
    expect(r.host.messages).toBe(4);
    expect(r.host.intx).toBe(false);
  });

  test('data that takes the place of what was fetched is a new message', async () => {
    const r = await withMsi();
    let left = 0;
    const backEnd = new BackEnd(r, 0, 1000, (message, self) => {
      self.hear(message);
      // Whatever the card takes, at once, as long as there is something.
      if (message.kind === 'credit' && left > 0) self.send(...Array.from({ length: message.bytes }, () => left--));
    });
    left = 3;
    r.write(IER, 1);
    const before = r.host.messages;
    backEnd.send(left--);
    expect(r.host.messages).toBe(before + 1);
    r.read(DATA);
    r.read(DATA);
    expect(r.host.messages).toBe(before + 3);
  });

  test('enabled while something is pending: a message; disabled: the pin', async () => {
    const r = await Rig.started();
    r.write(IER, 2);
    expect([r.host.intx, r.host.messages]).toEqual([true, 0]);
    const assign = async (on: boolean): Promise<void> => {
      await r.card.quiesce('irqs');
      r.host.msi = on;
      r.card.irqsChanged(IRQ_MSI, 0, 1);
      r.card.resume();
    };
    await assign(true);
    expect([r.host.intx, r.host.messages]).toEqual([false, 1]);
    await assign(false);
    expect([r.host.intx, r.host.messages]).toEqual([true, 1]);
  });
});

describe('the channel', () => {
  test('begins with a reset, the state of things, and credit for what the receiver takes', async () => {
    const r = await Rig.started();
    expect(new BackEnd(r).log).toEqual(['reset', 'consumer true', 'settings 9600 5', 'modem', 'break false', 'credit 1']);
    r.write(FCR, 1);
    r.write(LCR, 3);
    r.write(MCR, 3);
    expect(new BackEnd(r).log).toEqual(['reset', 'consumer true', 'settings 9600 8', 'modem dtr rts', 'break false', 'credit 16']);
  });

  test('tells what changes, and only that', async () => {
    const r = await Rig.started();
    const { log } = new BackEnd(r);
    log.length = 0;
    r.write(LCR, 0x83);
    r.write(DATA, 1);
    r.write(IER, 0);
    r.write(LCR, 0x03);
    r.write(MCR, 0x0b);
    r.write(MCR, 0x0b);
    r.write(LCR, 0x43);
    r.write(LCR, 0x03);
    r.write(MCR, 0x1b);
    await r.card.detach('closed');
    expect(log).toEqual([
      'settings 9600 8', 'settings 115200 8', 'modem dtr rts', 'break true', 'break false', 'modem', 'reset', 'settings 9600 5', 'credit 1', 'consumer false',
    ]);
    expect(r.card.emudev.getAttr(lineSettingsAttr(0)).baud).toBe(9600);
  });

  test('chunks: a full FIFO at once, the rest soon, or when the guest asks', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r);
    r.write(FCR, 1);
    for (let i = 0; i < 20; i++) r.write(DATA, i);
    expect(backEnd.log.filter((line) => line.startsWith('bytes'))).toEqual(['bytes 16']);
    expect(r.read(LSR)).toBe(0x60);
    r.write(DATA, 20);
    await expect.poll(() => backEnd.bytes).toEqual(Array.from({ length: 21 }, (_, i) => i));
    expect(backEnd.log.filter((line) => line.startsWith('bytes'))).toEqual(['bytes 16', 'bytes 4', 'bytes 1']);
  });

  test('a back end that takes nothing keeps THRE and TEMT clear; its credit lets go of just so many', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r, 0, 0);
    r.write(FCR, 1);
    r.write(IER, 2);
    r.read(IIR);
    for (let i = 0; i < 10; i++) r.write(DATA, i);
    expect([r.read(LSR), r.host.intx, backEnd.bytes]).toEqual([0, false, []]);
    backEnd.channel.send({ kind: 'credit', bytes: 4 });
    expect([r.read(LSR), r.host.intx, backEnd.bytes]).toEqual([0, false, [0, 1, 2, 3]]);
    backEnd.channel.send({ kind: 'credit', bytes: 6 });
    expect([r.read(LSR), r.host.intx, backEnd.bytes.length]).toEqual([0x60, true, 10]);
  });

  test('without a back end bytes wait', async () => {
    const r = await Rig.started();
    r.write(DATA, 7);
    expect(r.read(LSR)).toBe(0);
    expect(new BackEnd(r).bytes).toEqual([7]);
    expect(r.read(LSR)).toBe(0x60);
  });

  test('credit for the receiver comes as the guest fetches, and never for more than the FIFO takes', async () => {
    const r = await Rig.started();
    r.write(FCR, 1);
    const backEnd = new BackEnd(r);
    expect(backEnd.credit).toBe(16);
    backEnd.send(...Array.from({ length: 16 }, (_, i) => i));
    for (let i = 0; i < 7; i++) r.read(DATA);
    expect(backEnd.credit).toBe(0);
    r.read(DATA);
    expect(backEnd.credit).toBe(8);
    expect(() => { backEnd.send(...Array.from({ length: 9 }, () => 0)); }).toThrow(expect.objectContaining({ code: 'EMUDEV_RANGE' }));
    expect(r.fetch()).toEqual(Array.from({ length: 8 }, (_, i) => i + 8));
    expect(r.card.emudev.getAttr(countersAttr(0))).toBe('tx:0 rx:16 overrun:0 break:0');
  });

  test('a guest that waits for its trigger level is never left below it while the back end has more', async () => {
    for (const [code, level] of [[0, 1], [1, 4], [2, 8], [3, 14]] as const) {
      const r = await Rig.started();
      r.write(FCR, 1 | code << 6);
      r.write(IER, 1);
      let left = 500;
      const backEnd = new BackEnd(r, 0, 0, (message, self) => {
        self.hear(message);
        if (message.kind === 'credit') self.send(...Array.from({ length: Math.min(message.bytes, left) }, () => left-- & 0xff));
      });
      let rounds = 0;
      for (; left > 0; rounds++) {
        expect(r.read(IIR), `trigger level ${level}`).toBe(0xc4);
        for (let i = 0; i < level; i++) r.read(DATA);
      }
      expect(backEnd.log.filter((line) => line.startsWith('credit')).length).toBeLessThan(500 / 2);
    }
  });

  test('a FIFO switched off behind a credit, and loopback: what comes waits on the line', async () => {
    const r = await Rig.started();
    r.write(FCR, 1);
    const backEnd = new BackEnd(r);
    r.write(FCR, 0);
    backEnd.send(1, 2, 3);
    expect(r.fetch()).toEqual([1, 2, 3]);
    r.write(MCR, 0x10);
    backEnd.send(4);
    expect(r.fetch()).toEqual([]);
    r.write(MCR, 0);
    expect(r.fetch()).toEqual([4]);
  });

  test('breaks in order with bytes, from the far end', async () => {
    const r = await Rig.started();
    r.write(FCR, 1);
    const backEnd = new BackEnd(r);
    backEnd.send(1);
    backEnd.channel.send({ kind: 'break' });
    backEnd.send(2);
    expect([r.read(LSR) & 0x11, r.read(DATA), r.read(LSR) & 0x11, r.read(DATA), r.read(DATA)]).toEqual([1, 1, 0x11, 0, 2]);
    expect(r.card.emudev.getAttr(countersAttr(0))).toBe('tx:0 rx:2 overrun:0 break:1');
  });

  test('modem inputs reach MSR; when the back end leaves they drop, and its far end is forgotten', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r);
    backEnd.channel.send({ kind: 'modem', lines: { cts: true, dsr: true, ri: false, dcd: true } });
    r.card.emudev.setAttr(farEndAttr(0), '/dev/pts/7');
    expect(r.read(MSR)).toBe(0xbb);
    backEnd.registration[Symbol.dispose]();
    expect([r.read(MSR), r.card.emudev.getAttr(farEndAttr(0))]).toEqual([0x0b, '']);
  });

  test('the credit of a back end that has left is void', async () => {
    const r = await Rig.started();
    const first = new BackEnd(r);
    first.registration[Symbol.dispose]();
    r.write(DATA, 1);
    r.read(LSR);
    expect(first.bytes).toEqual([]);
    expect(new BackEnd(r).bytes).toEqual([1]);
  });

  test.each([
    ['no number', Number.NaN], ['a fraction', 0.5], ['zero', 0], ['less than nothing', -1], ['more than may be', MAX_TRANSMIT_CREDIT + 1],
  ])('credit of %s is refused', async (_what, bytes) => {
    const r = await Rig.started();
    const { channel } = new BackEnd(r, 0, 0);
    expect(() => { channel.send({ kind: 'credit', bytes }); }).toThrow(expect.objectContaining({ code: 'EMUDEV_RANGE' }));
  });

  test('a message that there is not is refused', async () => {
    const r = await Rig.started();
    const { channel } = new BackEnd(r);
    expect(() => { channel.send({ kind: 'reboot' } as never); }).toThrow(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
  });

  test('a handler that throws is reported, and the next message comes', async () => {
    const r = await Rig.started();
    const errors: unknown[] = [];
    r.card.emudev.on('error', (error) => errors.push(error));
    new BackEnd(r, 0, 0, () => { throw new Error('no'); });
    expect(errors).toHaveLength(6);
    await r.card.emudev.close();
  });
});

describe('what waits, and what is void', () => {
  test('before the start, and while stopped, no byte moves and none is lost', async () => {
    const r = new Rig();
    await r.card.attach(r.host);
    const backEnd = new BackEnd(r);
    expect(backEnd.credit).toBe(0);
    r.write(FCR, 1);
    r.write(DATA, 1);
    expect([r.read(LSR), backEnd.bytes]).toEqual([0, []]);
    await r.card.emudev.configure({});
    await r.card.emudev.start();
    expect([backEnd.bytes, backEnd.credit]).toEqual([[1], 16]);
    await r.card.emudev.stop();
    backEnd.send(8, 9);
    r.write(DATA, 2);
    expect([r.read(LSR), r.fetch(), backEnd.bytes]).toEqual([0, [], [1]]);
    await r.card.emudev.start();
    expect([r.fetch(), backEnd.bytes]).toEqual([[8, 9], [1, 2]]);
  });

  test('nothing moves and no interrupt is raised between quiesce and resume', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r);
    r.write(IER, 1);
    await r.card.quiesce('dma-map');
    backEnd.send(1);
    expect(r.host.intx).toBe(false);
    r.card.resume();
    expect(r.host.intx).toBe(true);
  });

  test('a reset empties both FIFOs, drops the interrupt, and credits begin anew', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r);
    r.write(FCR, 1);
    r.write(IER, 0x0f);
    backEnd.send(1, 2);
    backEnd.log.length = 0;
    await r.card.quiesce('reset');
    await r.card.reset();
    r.card.resume();
    expect([r.host.intx, r.read(LSR), r.read(IER)]).toEqual([false, 0x60, 0]);
    expect(backEnd.log).toEqual(['reset', 'credit 1']);
    expect(backEnd.credit).toBe(1);
    backEnd.send(3);
    r.write(DATA, 4);
    expect([r.fetch(), backEnd.bytes]).toEqual([[3], [4]]);
  });

  test('what waits on the line does not come to whoever uses the port after a reset', async () => {
    const r = await Rig.started();
    const backEnd = new BackEnd(r);
    r.write(MCR, 0x10);
    backEnd.send(1);
    await r.card.reset();
    // Room for all of the FIFO, and for what comes now.
    expect(backEnd.credit).toBe(1);
    backEnd.send(2);
    expect(r.fetch()).toEqual([2]);
  });

  test('what a slow back end sends before it has heard of a reset is void, and no error', async () => {
    const r = await Rig.started();
    r.write(FCR, 1);
    let release = (): void => {};
    const backEnd = new BackEnd(r, 0, 0, (message: SerialToBackEnd, self) => {
      self.hear(message);
      if (message.kind === 'bytes') return new Promise((resolve) => { release = () => { resolve(); }; });
    });
    backEnd.channel.send({ kind: 'credit', bytes: 5 });
    r.write(DATA, 1);
    r.read(LSR);
    expect(backEnd.bytes).toEqual([1]);
    await r.card.quiesce('reset');
    await r.card.reset();
    r.card.resume();
    backEnd.send(7);
    backEnd.channel.send({ kind: 'credit', bytes: 100 });
    r.write(DATA, 2);
    expect([r.fetch(), r.read(LSR)]).toEqual([[], 0]);
    release();
    await expect.poll(() => backEnd.credit).toBe(1);
    backEnd.send(8);
    expect([r.fetch(), backEnd.bytes]).toEqual([[8], [1]]);
    backEnd.channel.send({ kind: 'credit', bytes: 1 });
    expect(backEnd.bytes).toEqual([1, 2]);
  });

  test('a guest that plays with its lines while the back end does not listen makes nothing grow', async () => {
    const r = await Rig.started();
    let release = (): void => {};
    const heard: SerialToBackEnd[] = [];
    new BackEnd(r, 0, 0, (message) => {
      heard.push(message);
      return new Promise((resolve) => { release = () => { resolve(); }; });
    });
    for (let i = 0; i < 5000; i++) r.write(MCR, i & 3);
    r.write(MCR, 3);
    for (let i = 0; i < 200; i++) {
      release();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(heard.length).toBeLessThan(80);
    expect(heard.findLast(({ kind }) => kind === 'modem')).toEqual({ kind: 'modem', lines: { dtr: true, rts: true } });
  });
});
