/** The kernel's sample card mtty and bad devices, through the kernel source, on a VFIO that is a script. */
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeEach, afterEach, describe, expect, test } from 'vitest';
import { BusDevice, KernelSource, type Sysfs } from '@emudev/bus-pci';
import { SerialCard, type SerialPort } from '@emudev/serial-pmd';
import { FakeKernel } from '../../bus-pci/test/fake-kernel.ts';
import { FakeVfio, type FakeModel } from '../../bus-pci/test/fake-vfio.ts';
import { fakeMtty } from '../../bus-pci/test/fake-vfio-models.ts';
import { serialSuite } from './serial-suite.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

function machine(model: FakeModel): { readonly kernel: FakeKernel; readonly vfio: FakeVfio; open(): Promise<BusDevice> } {
  const kernel = new FakeKernel();
  kernel.parent('mtty', { 'mtty-2': { available: 12 } });
  kernel.mdev('mtty', 'mtty-2', UUID);
  const vfio = new FakeVfio(kernel);
  vfio.device(UUID, 11, model);
  // The fake extends the source of the class, the package under test has the built one.
  const sysfs = kernel as unknown as Sysfs;
  return { kernel, vfio, open: () => BusDevice.open(new KernelSource({ sysfs, sys: vfio.sys }), { kind: 'mdev', uuid: UUID }, { sys: vfio.sys }) };
}

describe('the suite on mtty', () => {
  const { kernel, open } = machine(fakeMtty(2));
  afterAll(() => { kernel[Symbol.dispose](); });
  for (const { title, run } of serialSuite({ open, ports: 2, interrupts: ['intx', 'msi'] })) test(title, run);
});

describe('bad devices', () => {
  let made: ReturnType<typeof machine>;
  let registers: (offset: number, value: number) => number | undefined;
  let overConfig: (offset: number, into: Uint8Array) => void;
  beforeEach(() => {
    registers = () => undefined;
    overConfig = () => {};
    const good = fakeMtty(1);
    made = machine({
      ...good,
      read: (region, offset, into) => {
        const length = good.read!(region, offset, into);
        const lie = region === 0 ? registers(offset, into[0]!) : undefined;
        if (lie !== undefined) into[0] = lie;
        if (region === 7) overConfig(offset, into);
        return length;
      },
    });
  });
  afterEach(() => {
    expect(made.vfio.openFiles).toBe(0);
    made.kernel[Symbol.dispose]();
  });

  test('a device of another class is no serial card, and is closed', async () => {
    overConfig = (offset, into) => { if (offset <= 0x0b && offset + into.length > 0x0b) into[0x0b - offset] = 0x02; };
    await expect(SerialCard.open(await made.open())).rejects.toMatchObject({ code: 'ERR_SERIAL_NOT_A_UART', message: expect.stringContaining('020002') as string });
  });

  test('registers that read as all ones are no UART; the card can still be closed', async () => {
    await using card = await SerialCard.open(await made.open());
    registers = () => 0xff;
    await expect(card.openPort(0)).rejects.toMatchObject({ code: 'ERR_SERIAL_NOT_A_UART' });
  });

  test('a port that asks for service without end is given up, not served for ever', async () => {
    await using card = await SerialCard.open(await made.open());
    const port = await card.openPort(0);
    const reading = expect(port.read()).rejects.toMatchObject({ code: 'ERR_SERIAL_BAD_DEVICE' });
    registers = (offset) => (offset === 2 ? 0xc4 : offset === 5 ? 0x00 : undefined);
    made.vfio.signal(UUID, card.interrupt === 'msi' ? 1 : 0);
    await reading;
    await expect(port.write(Uint8Array.of(1))).rejects.toMatchObject({ code: 'ERR_SERIAL_BAD_DEVICE' });
    // Its place is free; the card itself is in order.
    registers = () => undefined;
    await (await card.openPort(0)).close();
  });

  test('bytes without end fill no more than the receiver', async () => {
    await using card = await SerialCard.open(await made.open());
    const port = await card.openPort(0, { receiveBytes: 100 });
    registers = (offset) => (offset === 2 ? 0xc4 : offset === 5 ? 0x61 : offset === 0 ? 0x55 : undefined);
    made.vfio.signal(UUID, card.interrupt === 'msi' ? 1 : 0);
    // Which it goes on to ask for when there is no room any more.
    const failed = (async () => {
      for (;;) {
        await port.drain();
        await turn();
      }
    })();
    await expect(failed).rejects.toMatchObject({ code: 'ERR_SERIAL_BAD_DEVICE' });
    expect((await port.read())!.length).toBe(100);
    await expect(port.read()).rejects.toMatchObject({ code: 'ERR_SERIAL_BAD_DEVICE' });
  });

  test('errors of the line are counted with the bytes they belong to', async () => {
    await using card = await SerialCard.open(await made.open());
    const port = await card.openPort(0, { loopback: true });
    let errors = 0x02 | 0x04 | 0x08;
    registers = (offset, value) => {
      if (offset !== 5 || (value & 1) === 0) return undefined;
      const now = value | errors;
      errors = 0;
      return now;
    };
    await port.write(Buffer.from('x'));
    expect(Buffer.from((await port.read())!).toString()).toBe('x');
    expect(port.counters).toMatchObject({ overruns: 1, parityErrors: 1, framingErrors: 1, received: 1 });
  });

  test('a port that is opened while the card is closed is closed, too, however far it has come', async () => {
    // Every step of opening is a turn of the microtask queue.
    for (let turns = 0, opened = false; !opened; turns++) {
      const card = await SerialCard.open(await made.open());
      const opening = card.openPort(0).then((port) => port, () => undefined);
      let settled: SerialPort | undefined | 'not yet' = 'not yet';
      void opening.then((port) => { settled = port; });
      for (let i = 0; i < turns; i++) await undefined;
      opened = settled !== 'not yet';
      await card.close();
      const port = await opening;
      const end = port?.read().then((bytes) => bytes ?? 'end');
      if (end !== undefined) expect([turns, await Promise.race([end, turn('open')])]).toEqual([turns, 'end']);
    }
  });

  test('what a callback throws is not taken for a failure of the card', async () => {
    await using card = await SerialCard.open(await made.open());
    const port = await card.openPort(0);
    const uncaught = new Promise<unknown>((resolve) => { process.setUncaughtExceptionCaptureCallback(resolve); });
    try {
      using _ = port.onModem(() => { throw new Error('oops'); });
      let asks = true;
      registers = (offset) => {
        if (offset === 2 && asks) return 0xc0;
        if (offset !== 6) return undefined;
        asks = false;
        return 0x11;
      };
      made.vfio.signal(UUID, card.interrupt === 'msi' ? 1 : 0);
      expect(await uncaught).toMatchObject({ message: 'oops' });
    } finally {
      process.setUncaughtExceptionCaptureCallback(null);
    }
    registers = () => undefined;
    expect((await port.modem()).cts).toBe(true);
  });

  test('a card that vanishes', async () => {
    await using card = await SerialCard.open(await made.open());
    const port = await card.openPort(0, { loopback: true });
    made.vfio.vanish(UUID);
    await expect(port.write(Uint8Array.of(1))).rejects.toMatchObject({ code: 'ERR_SERIAL_GONE' });
    await expect(port.read()).rejects.toMatchObject({ code: 'ERR_SERIAL_GONE' });
  });
});
