/** Every rule of the registers, by section of the PC16550D data sheet. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { REGISTERS, Uart } from '../src/index.ts';

const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7] as const;
const DLAB = 0x80;
const LOOP = 0x10;

class Rig {
  readonly uart: Uart;
  readonly sent: number[] = [];
  /** Levels of the interrupt pin, each time it changes. */
  readonly pin: boolean[] = [];
  rises = 0;
  /** How many bytes the line takes. */
  taking = Number.POSITIVE_INFINITY;
  asked = 0;

  constructor() {
    this.uart = new Uart({
      transmit: (now) => {
        if (now) this.asked++;
        if (now) this.drain();
      },
      room: () => {},
      line: () => {},
      interrupt: () => {
        if (this.uart.takeRising()) this.rises++;
        if ((this.pin.at(-1) ?? false) !== this.uart.interrupting) this.pin.push(this.uart.interrupting);
      },
    });
  }

  drain(): void {
    const into = new Uint8Array(Math.min(this.uart.pending, this.taking));
    if (into.length === 0) return;
    this.taking -= into.length;
    this.uart.take(into);
    this.sent.push(...into);
  }

  r(offset: number): number { return this.uart.read(offset); }
  w(offset: number, value: number): void { this.uart.write(offset, value); }
  in(...bytes: number[]): void { for (const byte of bytes) this.uart.receive(byte); }
  iir(): number { return this.r(IIR); }
  /** FIFOs on, with a trigger level by its code. */
  fifos(trigger = 0): this { this.w(FCR, 1 | trigger << 6); return this; }
}

const rig = (): Rig => new Rig();
const eight = (from = 0): number[] => Array.from({ length: 8 }, (_, i) => from + i);
const sixteen = (): number[] => Array.from({ length: 16 }, (_, i) => i);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test.each(REGISTERS.filter(({ access }) => access.includes('r')))('$name after a reset reads as table I has it ($section)', ({ offset, dlab, reset, name }) => {
  const check = (u: Rig): void => {
    if (dlab === 1) u.w(LCR, DLAB);
    expect(u.r(offset), name).toBe(reset);
  };
  check(rig());
  const used = rig();
  used.fifos().w(LCR, 0x80);
  for (const at of [0, 1, 7]) used.w(at, 0xff);
  used.w(LCR, 0x1f);
  used.w(IER, 0x0f);
  used.w(MCR, 0x0f);
  used.in(1, 2);
  used.uart.reset();
  expect(used.uart.interrupting).toBe(false);
  check(used);
});

test.each(REGISTERS.filter(({ access }) => access === 'rw'))('$name keeps the bits it has and no others ($section)', ({ offset, dlab, bits, name }) => {
  const u = rig();
  if (dlab === 1) u.w(LCR, DLAB);
  u.w(offset, 0xff);
  expect(u.r(offset), name).toBe(bits);
  u.w(offset, 0);
  expect(u.r(offset), name).toBe(0);
});

interface Rule {
  readonly id: string;
  readonly rule: string;
  readonly run: (u: Rig) => void;
}
const rules: readonly Rule[] = [
  {
    id: '8.0 DLAB', rule: 'the divisor latch hides data and enables, and each keeps its value',
    run: (u) => {
      u.w(IER, 0x05);
      u.w(LCR, DLAB | 3);
      u.w(DATA, 0x34);
      u.w(IER, 0x12);
      expect([u.r(DATA), u.r(IER), u.uart.pending]).toEqual([0x34, 0x12, 0]);
      u.w(LCR, 3);
      expect(u.r(IER)).toBe(5);
    },
  },
  {
    id: '8.1 settings', rule: 'word length, stop bits and parity',
    run: (u) => {
      const seen = (lcr: number): string => {
        u.w(LCR, lcr);
        const { dataBits, parity, stopBits } = u.uart.settings;
        return `${dataBits} ${parity} ${stopBits}`;
      };
      expect([0x00, 0x04, 0x01, 0x06, 0x07, 0x0b, 0x1b, 0x2b, 0x3b, 0x33].map(seen)).toEqual([
        '5 none 1', '5 none 1.5', '6 none 1', '7 none 2', '8 none 2', '8 odd 1', '8 even 1', '8 mark 1', '8 space 1', '8 none 1',
      ]);
    },
  },
  {
    id: '8.1 break', rule: 'the line is held in break; what is written waits, and what was written goes before',
    run: (u) => {
      u.fifos().w(DATA, 1);
      u.w(LCR, 0x43);
      expect([u.uart.breaking, u.sent]).toEqual([true, [1]]);
      u.w(DATA, 2);
      expect([u.r(LSR) & 0x60, u.sent]).toEqual([0, [1]]);
      u.w(LCR, 0x03);
      expect([u.uart.breaking, u.sent]).toEqual([false, [1, 2]]);
    },
  },
  {
    id: '8.3 divisor', rule: 'baud is 115200 by the divisor; 0 is none',
    run: (u) => {
      const baud = (divisor: number): number => {
        u.w(LCR, DLAB);
        u.w(DATA, divisor & 0xff);
        u.w(IER, divisor >> 8);
        return u.uart.settings.baud;
      };
      expect([1, 2, 12, 384, 0xffff, 0].map(baud)).toEqual([115_200, 57_600, 9600, 300, 2, 0]);
    },
  },
  {
    id: '8.4 DR', rule: 'DR while there is something to fetch; an empty RBR reads as 0',
    run: (u) => {
      u.fifos().in(7, 8);
      expect([u.r(LSR) & 1, u.r(DATA), u.r(LSR) & 1, u.r(DATA), u.r(LSR) & 1, u.r(DATA)]).toEqual([1, 7, 1, 8, 0, 0]);
    },
  },
  {
    id: '8.4 OE FIFO', rule: 'in loopback the 17th byte is lost, the 16 stay, and OE says so once',
    run: (u) => {
      u.fifos().w(MCR, LOOP);
      for (let i = 0; i < 17; i++) u.w(DATA, i);
      expect([u.uart.overruns, u.r(LSR) & 2, u.r(LSR) & 2]).toEqual([1, 2, 0]);
      expect(sixteen().map(() => u.r(DATA))).toEqual(sixteen());
      expect(u.r(LSR) & 1).toBe(0);
    },
  },
  {
    id: '8.4 OE 16450', rule: 'with the FIFOs off the newer byte takes the place of the older',
    run: (u) => {
      u.w(MCR, LOOP);
      u.w(DATA, 1);
      u.w(DATA, 2);
      expect([u.r(LSR) & 3, u.r(DATA), u.r(LSR) & 3]).toEqual([3, 2, 0]);
    },
  },
  {
    id: '8.4 BI', rule: 'a break is one zero with BI, shown when it is the next to fetch, and once',
    run: (u) => {
      u.fifos().in(5);
      u.uart.receiveBreak();
      u.in(6);
      expect(u.r(LSR)).toBe(0x81 | 0x60);
      expect(u.r(DATA)).toBe(5);
      expect(u.r(LSR)).toBe(0x91 | 0x60);
      expect(u.r(LSR)).toBe(0x01 | 0x60);
      expect([u.r(DATA), u.r(DATA), u.r(LSR)]).toEqual([0, 6, 0x60]);
    },
  },
  {
    id: '8.4 bit 7 16450', rule: 'with the FIFOs off LSR bit 7 is 0',
    run: (u) => {
      u.uart.receiveBreak();
      expect(u.r(LSR) & 0x91).toBe(0x11);
    },
  },
  {
    id: '8.4 bit 7 goes with its byte', rule: 'an error that is fetched without a look is gone',
    run: (u) => {
      u.fifos().uart.receiveBreak();
      u.in(1);
      u.r(DATA);
      expect(u.r(LSR)).toBe(0x61);
    },
  },
  {
    id: '8.4 THRE TEMT', rule: 'clear while the line takes nothing, set when the last byte is gone',
    run: (u) => {
      u.taking = 0;
      u.fifos().w(DATA, 1);
      u.w(DATA, 2);
      expect(u.r(LSR)).toBe(0);
      u.taking = 1;
      expect(u.r(LSR)).toBe(0);
      u.taking = 1;
      expect(u.r(LSR)).toBe(0x60);
      expect(u.sent).toEqual([1, 2]);
    },
  },
  {
    id: '8.4 LSR is not written', rule: 'writes to LSR and MSR mean nothing',
    run: (u) => {
      u.w(LSR, 0xff);
      u.w(MSR, 0xff);
      expect([u.r(LSR), u.r(MSR)]).toEqual([0x60, 0]);
    },
  },
  {
    id: '8.5 bit 0', rule: 'switching the FIFOs on or off empties both',
    run: (u) => {
      u.taking = 0;
      u.fifos().in(1, 2, 3);
      u.w(DATA, 9);
      u.w(FCR, 0);
      expect([u.uart.received, u.r(LSR), u.iir()]).toEqual([0, 0x60, 1]);
      u.in(4);
      u.w(FCR, 1);
      expect([u.uart.received, u.iir()]).toEqual([0, 0xc1]);
    },
  },
  {
    id: '8.5 bit 0 guards', rule: 'the other bits are programmed only with bit 0',
    run: (u) => {
      u.fifos(2);
      u.w(FCR, 0xc6);
      u.w(IER, 1);
      u.fifos().in(1);
      expect(u.iir()).toBe(0xc4);
    },
  },
  {
    id: '8.5 bit 1', rule: 'empties the receiver alone, and again each time',
    run: (u) => {
      u.taking = 0;
      u.fifos().w(DATA, 9);
      for (const n of [1, 2]) {
        u.in(n, n);
        u.w(FCR, 0x03);
        expect([u.uart.received, u.uart.pending]).toEqual([0, 1]);
      }
    },
  },
  {
    id: '8.5 bit 2', rule: 'empties the transmitter alone',
    run: (u) => {
      u.taking = 0;
      u.fifos().w(DATA, 9);
      u.in(1);
      u.w(FCR, 0x05);
      expect([u.uart.received, u.uart.pending, u.r(LSR)]).toEqual([1, 0, 0x61]);
    },
  },
  {
    id: '8.5 capacity', rule: 'sixteen characters each way with the FIFOs, one without',
    run: (u) => {
      u.taking = 0;
      expect(u.uart.room).toBe(1);
      u.w(DATA, 1);
      u.w(DATA, 2);
      expect(u.uart.pending).toBe(1);
      u.fifos();
      expect(u.uart.room).toBe(16);
      for (let i = 0; i < 20; i++) u.w(DATA, i);
      expect(u.uart.pending).toBe(16);
      u.taking = 99;
      u.r(LSR);
      expect(u.sent).toEqual(sixteen());
    },
  },
  {
    id: '8.6 IIR', rule: 'bits 7 and 6 tell of the FIFOs; 1 is none',
    run: (u) => {
      expect(u.iir()).toBe(0x01);
      expect(u.fifos().iir()).toBe(0xc1);
    },
  },
  {
    id: '8.6 priorities', rule: 'line status, received, transmitter, modem: each until it is served',
    run: (u) => {
      u.fifos().uart.receiveBreak();
      u.uart.setInputs(0x10);
      u.w(IER, 0x0f);
      expect(u.iir()).toBe(0xc6);
      u.r(LSR);
      expect(u.iir()).toBe(0xc4);
      u.r(DATA);
      expect(u.iir()).toBe(0xc2);
      expect(u.iir()).toBe(0xc0);
      u.r(MSR);
      expect(u.iir()).toBe(0xc1);
      expect(u.pin).toEqual([true, false]);
    },
  },
  {
    id: '8.6 IIR resets one', rule: 'reading IIR takes back the transmitter interrupt only where it is the one shown',
    run: (u) => {
      u.fifos().in(1);
      u.w(IER, 0x03);
      expect([u.iir(), u.iir(), u.r(DATA), u.iir(), u.iir()]).toEqual([0xc4, 0xc4, 1, 0xc2, 0xc1]);
    },
  },
  ...[[0, 1], [1, 4], [2, 8], [3, 14]].map(([code, level]): Rule => ({
    id: `8.11 trigger ${level}`, rule: 'received from the trigger level on, gone below it',
    run: (u) => {
      u.fifos(code).w(IER, 1);
      for (let i = 1; i < level!; i++) u.in(i);
      expect(u.uart.interrupting).toBe(false);
      u.in(0);
      expect(u.iir()).toBe(0xc4);
      u.in(0);
      expect(u.iir()).toBe(0xc4);
      u.r(DATA);
      u.r(DATA);
      expect(u.uart.interrupting).toBe(false);
    },
  })),
  {
    id: '8.11 time-out', rule: 'below the trigger level after four characters without arrival or fetch; a fetch takes it back',
    run: (u) => {
      u.fifos(3).w(LCR, DLAB);
      u.w(DATA, 96); // 1200 baud, eight bits: four characters are 33.3 ms.
      u.w(LCR, 3);
      u.w(IER, 1);
      u.in(1, 2);
      vi.advanceTimersByTime(30);
      u.in(3);
      vi.advanceTimersByTime(33);
      expect(u.iir()).toBe(0xc1);
      vi.advanceTimersByTime(2);
      expect(u.iir()).toBe(0xcc);
      expect([u.r(DATA), u.iir()]).toEqual([1, 0xc1]);
      vi.advanceTimersByTime(20);
      u.r(DATA);
      vi.advanceTimersByTime(30);
      expect(u.iir()).toBe(0xc1);
      vi.advanceTimersByTime(10);
      expect(u.iir()).toBe(0xcc);
      expect([u.r(DATA), u.iir()]).toEqual([3, 0xc1]);
      vi.advanceTimersByTime(1000);
      expect([u.iir(), vi.getTimerCount()]).toEqual([0xc1, 0]);
    },
  },
  {
    id: '8.11 time-out, arrival', rule: 'a byte that arrives takes it back too',
    run: (u) => {
      u.fifos(3).w(IER, 1);
      u.in(1);
      vi.advanceTimersByTime(10);
      expect(u.iir()).toBe(0xcc);
      u.in(2);
      expect(u.iir()).toBe(0xc1);
      vi.advanceTimersByTime(10);
      expect(u.iir()).toBe(0xcc);
    },
  },
  {
    id: '8.11 time-out, enable', rule: 'what waited before the interrupt was enabled times out as well, and nothing waits for a time-out nobody wants',
    run: (u) => {
      u.fifos(3).in(1);
      expect(vi.getTimerCount()).toBe(0);
      vi.advanceTimersByTime(100);
      u.w(IER, 1);
      vi.advanceTimersByTime(5);
      expect(u.iir()).toBe(0xcc);
    },
  },
  {
    id: '8.11 time-out 16450', rule: 'none with the FIFOs off',
    run: (u) => {
      u.w(IER, 1);
      u.in(1);
      vi.advanceTimersByTime(100);
      expect(u.iir()).toBe(0x04);
    },
  },
  {
    id: '8.7 ETBEI', rule: 'an empty transmitter interrupts when it is allowed to, each time anew; a full one does not',
    run: (u) => {
      u.w(IER, 2);
      expect([u.iir(), u.iir()]).toEqual([2, 1]);
      u.w(IER, 0);
      u.w(IER, 2);
      expect(u.iir()).toBe(2);
      u.taking = 0;
      u.w(DATA, 1);
      u.w(IER, 0);
      u.w(IER, 2);
      expect(u.iir()).toBe(1);
    },
  },
  {
    id: '8.11 transmitter', rule: 'written: taken back; run empty: raised again',
    run: (u) => {
      u.fifos().w(IER, 2);
      u.taking = 0;
      u.w(DATA, 1);
      expect(u.pin).toEqual([true, false]);
      u.taking = 1;
      u.drain();
      expect([u.iir(), u.pin]).toEqual([0xc2, [true, false, true, false]]);
    },
  },
  {
    id: '8.8 outputs', rule: 'DTR and RTS as MCR has them',
    run: (u) => {
      expect([0, 1, 2, 3].map((mcr) => {
        u.w(MCR, mcr);
        return u.uart.modemOutputs;
      })).toEqual([{ dtr: false, rts: false }, { dtr: true, rts: false }, { dtr: false, rts: true }, { dtr: true, rts: true }]);
    },
  },
  ...[[0x01, 0x20, 'DTR', 'DSR'], [0x02, 0x10, 'RTS', 'CTS'], [0x04, 0x40, 'OUT1', 'RI'], [0x08, 0x80, 'OUT2', 'DCD']].map(([output, input, from, to]): Rule => ({
    id: `8.8 loopback ${String(from)}`, rule: `is ${String(to)}, and the line sees neither`,
    run: (u) => {
      u.w(MCR, LOOP | Number(output));
      expect([u.r(MSR) & 0xf0, u.uart.modemOutputs]).toEqual([input, { dtr: false, rts: false }]);
    },
  })),
  {
    id: '8.8 loopback data', rule: 'what is written comes back and does not reach the line; nothing comes from the line; interrupts work',
    run: (u) => {
      u.fifos().w(MCR, LOOP);
      u.w(IER, 3);
      u.iir();
      u.w(DATA, 0xa5);
      expect([u.uart.room, u.uart.pending, u.sent, u.iir(), u.r(DATA), u.iir()]).toEqual([0, 0, [], 0xc4, 0xa5, 0xc2]);
    },
  },
  {
    id: '8.8 loopback break', rule: 'comes back as a break; the line does not see it',
    run: (u) => {
      u.fifos().w(MCR, LOOP);
      u.w(LCR, 0x43);
      expect([u.uart.breaking, u.r(LSR) & 0x11, u.r(DATA)]).toEqual([false, 0x11, 0]);
    },
  },
  {
    id: '8.8 loopback held bytes', rule: 'bytes for the line that wait are not looped: they go out afterwards',
    run: (u) => {
      u.taking = 0;
      u.fifos().w(DATA, 1);
      u.w(MCR, LOOP);
      u.w(DATA, 2);
      u.taking = 9;
      u.w(MCR, 0);
      expect([u.r(DATA), u.sent]).toEqual([2, [1]]);
    },
  },
  {
    id: '8.9 deltas', rule: 'DCTS, DDSR and DDCD on each change, TERI where RI ends; reading MSR clears them',
    run: (u) => {
      u.uart.setInputs(0xf0);
      expect([u.r(MSR), u.r(MSR)]).toEqual([0xfb, 0xf0]);
      u.uart.setInputs(0x00);
      expect([u.r(MSR), u.r(MSR)]).toEqual([0x0f, 0x00]);
    },
  },
  {
    id: '8.9 interrupt', rule: 'a delta interrupts until MSR is read',
    run: (u) => {
      u.w(IER, 8);
      u.uart.setInputs(0x80);
      expect([u.iir(), u.iir(), u.r(MSR), u.iir()]).toEqual([0, 0, 0x88, 1]);
    },
  },
  {
    id: '8.12 polled', rule: 'without interrupts everything is in LSR, and asking it hands on what waits',
    run: (u) => {
      u.fifos().w(DATA, 3);
      expect(u.sent).toEqual([]);
      expect([u.r(LSR), u.sent, u.pin]).toEqual([0x60, [3], []]);
    },
  },
  {
    id: 'edges', rule: 'a cause that arises while another is pending is seen once by whoever counts edges',
    run: (u) => {
      u.fifos().w(IER, 0x0b);
      expect(u.rises).toBe(1);
      u.in(1);
      u.uart.setInputs(0x10);
      u.in(2);
      expect([u.rises, u.pin]).toEqual([3, [true]]);
    },
  },
  {
    id: 'full', rule: 'a full transmitter asks the line at once, one with room does not',
    run: (u) => {
      u.fifos();
      for (const byte of eight()) u.w(DATA, byte);
      expect(u.asked).toBe(0);
      for (const byte of eight(8)) u.w(DATA, byte);
      expect([u.asked, u.sent]).toEqual([1, sixteen()]);
    },
  },
];

describe('rules', () => {
  test.each(rules)('$id: $rule', ({ run }) => { run(rig()); });
  test('each has an id of its own', () => {
    expect(new Set(rules.map(({ id }) => id)).size).toBe(rules.length);
  });
});

test('SCR is memory', () => {
  const u = rig();
  u.w(SCR, 0x5a);
  expect(u.r(SCR)).toBe(0x5a);
});
