import { raiseVector, VECTOR_PENDING } from '@emudev/emudev';
import { linux } from '@emudev/linux';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { controlOffset, REGION_DOORBELLS, takeControl } from '../src/contract.ts';
import { EchoBackEnd, Mailbox, Rig, settle } from './rig.ts';

const ADMINQ = 0x4000_0000;
/** What Linux, DPDK and FreeBSD write (iavf.md 6.2). */
const LINUX_ARM = 0x19;
const DPDK_ARM = 0x1b;
const DPDK_DISARM = 0x18;
const WB_ON_ITR = 0x4000_0018;
const SWINT = 0x0100_001d;

let rig: Rig;
let backEnd: EchoBackEnd;
let mailbox: Mailbox;

beforeEach(async () => {
  rig = await Rig.create();
  backEnd = new EchoBackEnd(rig);
  await settle();
  mailbox = new Mailbox(rig).init();
});
afterEach(async () => {
  vi.useRealTimers();
  await rig[Symbol.asyncDispose]();
});

/** A queue event, as an lcore raises it. */
function raise(vector: number): void {
  raiseVector(rig.window.i32, rig.emudev.irqInfo(vector).cells >>> 2, (fd) => linux.eventfdSignal(fd));
}

describe('queue vectors', () => {
  it('a register of a vector that the card does not have reaches no memory', () => {
    const end = rig.emudev.irqInfo(rig.emudev.info.numVectors - 1).cells + 64;
    const behind = rig.window.u8.slice(end, end + 1024);
    for (let index = rig.emudev.info.numVectors - 1; index < 16; index++) {
      rig.write('VFINT_DYN_CTLN1', SWINT, index);
      expect(rig.read('VFINT_DYN_CTLN1', index)).toBe(0);
    }
    expect(rig.window.u8.slice(end, end + 1024)).toEqual(behind);
  });

  it('a descriptor assigned while bus mastering is off is used when it is on', async () => {
    await rig.busMaster(false);
    await rig.assign(1, rig.vectors[2]!.fd);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    raise(1);
    expect(rig.interrupts(2)).toBe(0);
    await rig.busMaster(true);
    expect(rig.interrupts(2)).toBe(1);
  });

  it('what waits for its interval when the guest re-arms fires when that is over, and only then; SWINT_TRIG does not wait', async () => {
    const cells = rig.emudev.irqInfo(1).cells >>> 2;
    const throttled = (): number => raiseVector(rig.window.i32, cells, (fd) => linux.eventfdSignal(fd), 8000);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    throttled();
    expect(rig.interrupts(1)).toBe(1);
    const fired = performance.now();
    expect(throttled()).toBeGreaterThan(0);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    expect(rig.interrupts(1)).toBe(0);
    while (rig.window.i32[cells + VECTOR_PENDING] !== 0) await new Promise((resolve) => setImmediate(resolve));
    expect(performance.now() - fired).toBeGreaterThanOrEqual(8);
    expect(rig.interrupts(1)).toBe(1);
    throttled();
    rig.write('VFINT_DYN_CTLN1', SWINT, 0);
    expect(rig.interrupts(1)).toBe(1);
  });

  it('fires once per arming, and INTENA reads 0 once it has', () => {
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    expect(rig.read('VFINT_DYN_CTLN1') & 1).toBe(1);
    raise(1);
    raise(1);
    expect(rig.interrupts(1)).toBe(1);
    expect(rig.read('VFINT_DYN_CTLN1') & 1).toBe(0);
  });

  it('an event while disarmed fires on arming, also when CLEARPBA comes with it', () => {
    raise(2);
    expect(rig.interrupts(2)).toBe(0);
    rig.write('VFINT_DYN_CTLN1', DPDK_ARM, 1);
    expect(rig.interrupts(2)).toBe(1);
    rig.write('VFINT_DYN_CTLN1', DPDK_ARM, 1);
    expect(rig.interrupts(2)).toBe(0);
  });

  it('SWINT_TRIG fires an armed vector and is latched by a disarmed one', () => {
    rig.write('VFINT_DYN_CTLN1', SWINT, 0);
    expect(rig.interrupts(1)).toBe(1);
    rig.write('VFINT_DYN_CTLN1', SWINT & ~1, 0);
    expect(rig.interrupts(1)).toBe(0);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    expect(rig.interrupts(1)).toBe(1);
    expect(rig.read('VFINT_DYN_CTLN1') & 6).toBe(0);
  });

  it('WB_ON_ITR never fires', () => {
    raise(1);
    rig.write('VFINT_DYN_CTLN1', WB_ON_ITR, 0);
    expect(rig.interrupts(1)).toBe(0);
  });

  it('INTENA_MSK leaves INTENA as it is', () => {
    rig.write('VFINT_DYN_CTLN1', 0x8000_0019, 0);
    raise(1);
    expect(rig.interrupts(1)).toBe(0);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    expect(rig.interrupts(1)).toBe(1);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    rig.write('VFINT_DYN_CTLN1', 0x8000_0018, 0);
    raise(1);
    expect(rig.interrupts(1)).toBe(1);
  });

  it('an interval goes to the ITR it names, and reads back there', () => {
    rig.write('VFINT_DYN_CTLN1', 1 | (1 << 3) | (25 << 5), 2);
    expect(rig.read('VFINT_ITRN1', 16 + 2)).toBe(25);
    rig.write('VFINT_DYN_CTLN1', 1 | (3 << 3) | (77 << 5), 2);
    expect([0, 1, 2].map((i) => rig.read('VFINT_ITRN1', 16 * i + 2))).toEqual([0, 25, 0]);
    rig.write('VFINT_DYN_CTL01', (2 << 3) | (9 << 5));
    expect(rig.read('VFINT_ITR01', 2)).toBe(9);
  });

  it('a latch survives the descriptor being taken away and fires on the next', async () => {
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    await rig.assign(1, -1);
    expect(rig.emudev.irqInfo(1).fd).toBe(-1);
    raise(1);
    expect(rig.interrupts(1)).toBe(0);
    await rig.assign(1, rig.vectors[1]!.fd);
    expect(rig.interrupts(1)).toBe(1);
  });

  it('bus mastering off holds interrupts back, on delivers them', async () => {
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    await rig.busMaster(false);
    raise(1);
    expect(rig.interrupts(1)).toBe(0);
    await rig.busMaster(true);
    expect(rig.interrupts(1)).toBe(1);
  });

  it('nothing is signalled between quiesce and resume', async () => {
    rig.window.i32[(rig.emudev.irqInfo(1).cells >>> 2) + VECTOR_PENDING] = 1;
    await rig.device.quiesce('irqs');
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 0);
    expect(rig.interrupts(1)).toBe(0);
    rig.device.resume();
    expect(rig.interrupts(1)).toBe(1);
  });

  it('a vector that does not exist has no control register', () => {
    rig.write('VFINT_DYN_CTLN1', SWINT, 4);
    expect(rig.read('VFINT_DYN_CTLN1', 4)).toBe(0);
  });
});

describe('queue vectors of a consumer that has mapped their registers', () => {
  const word = (vector: number): number => (rig.emudev.mapRegion(REGION_DOORBELLS).offset + controlOffset(vector)) >>> 2;
  /** A store of the guest's: nobody hears of it. */
  const store = (vector: number, value: number): void => { rig.window.i32[word(vector)] = value; };

  it('a store arms: whoever raises next fires, once, and INTENA reads 0 either way', () => {
    store(1, LINUX_ARM);
    expect(rig.read('VFINT_DYN_CTLN1')).toBe(LINUX_ARM);
    raise(1);
    raise(1);
    expect(rig.interrupts(1)).toBe(1);
    expect(rig.read('VFINT_DYN_CTLN1') & 1).toBe(0);
    expect(rig.window.i32[word(1)]! & 1).toBe(0);
  });

  it('a message after stores that nobody has looked at loses none of what they say', () => {
    store(3, (2 << 3) | (33 << 5) | 4);
    rig.write('VFINT_DYN_CTLN1', LINUX_ARM, 2);
    expect(rig.interrupts(3)).toBe(1);
    expect(rig.read('VFINT_ITRN1', 32 + 2)).toBe(33);
    store(3, LINUX_ARM);
    rig.write('VFINT_DYN_CTLN1', 0x8000_0018, 2);
    raise(3);
    expect(rig.interrupts(3)).toBe(1);
  });

  it('a new descriptor, bus mastering and the end of a quiescence find what stores have armed and triggered', async () => {
    await rig.assign(1, -1);
    raise(1);
    store(1, LINUX_ARM);
    await rig.assign(1, rig.vectors[1]!.fd);
    expect(rig.interrupts(1)).toBe(1);
    await rig.busMaster(false);
    store(1, SWINT);
    await rig.busMaster(true);
    expect(rig.interrupts(1)).toBe(1);
  });

  it('a reset leaves zero, whatever was stored there, and what lies beside', async () => {
    store(1, SWINT);
    rig.window.i32[word(1) + 100] = 7;
    await rig.device.reset();
    expect([rig.window.i32[word(1)], rig.window.i32[word(1) + 100]]).toEqual([0, 0]);
    raise(1);
    expect(rig.interrupts(1)).toBe(0);
  });

  it('a guest that writes all the time keeps nobody busy', () => {
    const i32 = new Int32Array(new SharedArrayBuffer(8192));
    const control = 0x1400 >>> 2;
    const exchange = Atomics.compareExchange;
    let tries = 0;
    // As if another processor had written between any two operations.
    Atomics.compareExchange = ((): number => { tries++; return ~0; }) as unknown as typeof Atomics.compareExchange;
    try {
      i32[control] = SWINT;
      expect(takeControl(i32, control)).toBe(false);
    } finally {
      Atomics.compareExchange = exchange;
    }
    expect(tries).toBeLessThan(10);
    expect(takeControl(i32, control)).toBe(true);
  });
});

describe('vector 0', () => {
  it('serves the admin queue only while ICR0_ENA1.ADMINQ is set; the event waits', () => {
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    mailbox.send(1);
    expect(rig.interrupts()).toBe(0);
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    expect(rig.interrupts()).toBe(1);
  });

  it('a queue mapped to it needs no cause enable, and neither event swallows the other', () => {
    mailbox.send(1);
    raise(0);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    expect(rig.interrupts()).toBe(1);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    expect(rig.interrupts()).toBe(0);
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    expect(rig.interrupts()).toBe(1);
  });

  it('two quick messages give at least one interrupt after the first was taken', () => {
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    mailbox.send(1);
    mailbox.send(3);
    expect(rig.interrupts()).toBe(1);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    expect(rig.interrupts()).toBe(1);
  });

  it('reading ICR01 does not take the event away', () => {
    mailbox.send(1);
    expect(rig.read('VFINT_ICR01')).toBe(ADMINQ);
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    expect(rig.interrupts()).toBe(1);
  });

  it('DPDK style: ICR01 never read, no storm and no loss', async () => {
    vi.useFakeTimers();
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    rig.write('VFINT_DYN_CTL01', DPDK_ARM);
    let interrupts = 0;
    let received = 0;
    for (let i = 0; i < 20; i++) {
      mailbox.send(100 + i);
      const fired = rig.interrupts();
      interrupts += fired;
      if (fired === 0) continue;
      rig.write('VFINT_ICR0_ENA1', 0);
      rig.write('VFINT_DYN_CTL01', DPDK_DISARM);
      received += mailbox.receive().length;
      rig.write('VFINT_ICR0_ENA1', ADMINQ);
      rig.write('VFINT_DYN_CTL01', DPDK_ARM);
    }
    await vi.advanceTimersByTimeAsync(5000);
    expect({ interrupts: interrupts + rig.interrupts(), received }).toEqual({ interrupts: 20, received: 20 });
  });

  it('FreeBSD style: three messages an interrupt, re-armed before reading: 12 replies in less than 100 ms', async () => {
    vi.useFakeTimers();
    rig.write('VFINT_DYN_CTL01', DPDK_ARM);
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    for (let i = 0; i < 12; i++) backEnd.channel.send({ kind: 'message', opcode: 100 + i, status: 0, payload: new Uint8Array(0) });
    const received: number[] = [];
    for (let ms = 0; ms < 100 && received.length < 12; ms++) {
      if (rig.interrupts() > 0) {
        rig.write('VFINT_DYN_CTL01', DPDK_ARM);
        received.push(...mailbox.receive(3).map((message) => message.opcode));
      }
      await vi.advanceTimersByTimeAsync(1);
    }
    expect(received).toEqual(Array.from({ length: 12 }, (_, i) => 100 + i));
  });

  it('a guest that never reads is reminded ever more rarely', async () => {
    vi.useFakeTimers();
    rig.write('VFINT_ICR0_ENA1', ADMINQ);
    rig.write('VFINT_DYN_CTL01', LINUX_ARM);
    backEnd.channel.send({ kind: 'message', opcode: 100, status: 0, payload: new Uint8Array(0) });
    let interrupts = 0;
    for (let ms = 0; ms < 10_000; ms++) {
      interrupts += rig.interrupts();
      rig.write('VFINT_DYN_CTL01', LINUX_ARM);
      await vi.advanceTimersByTimeAsync(1);
    }
    expect(interrupts).toBeGreaterThan(10);
    expect(interrupts).toBeLessThan(40);
  });
});
