import { describe, expect, test } from 'vitest';
import { Uart16550 } from '../src/uart-16550.ts';

function uart(): { uart: Uart16550; sent: number[]; line: boolean[] } {
  const sent: number[] = [];
  const line: boolean[] = [];
  return { uart: new Uart16550({ transmit: (byte) => sent.push(byte), interrupt: (asserted) => line.push(asserted) }), sent, line };
}

describe('a 16550A', () => {
  test('is recognised: interrupt enables of 4 bits, modem loopback, FIFOs', () => {
    const { uart: u } = uart();
    u.write(1, 0xff);
    expect(u.read(1)).toBe(0x0f);
    u.write(4, 0x1a); // LOOP, OUT2, RTS
    expect(u.read(6) & 0xf0).toBe(0x90); // DCD, CTS
    u.write(2, 1);
    expect(u.read(2) >> 6).toBe(3);
  });

  test('the divisor latch hides data and enables, and keeps its own values', () => {
    const { uart: u, sent } = uart();
    u.write(3, 0x83);
    u.write(0, 12);
    u.write(1, 1);
    expect([u.read(0), u.read(1), sent]).toEqual([12, 1, []]);
    u.write(3, 0x03);
    expect(u.read(1)).toBe(0);
    u.write(0, 0x41);
    expect(sent).toEqual([0x41]);
  });

  test('an empty transmitter interrupts when enabled and after each byte, until IIR is read', () => {
    const { uart: u, line } = uart();
    u.write(1, 2);
    expect(line).toEqual([true]);
    expect(u.read(2)).toBe(2);
    expect([line, u.read(2)]).toEqual([[true, false], 1]);
    u.write(0, 0x42);
    expect(line).toEqual([true, false, true]);
  });

  test('received bytes interrupt until they are read, before anything else', () => {
    const { uart: u, line } = uart();
    u.write(2, 1);
    u.write(1, 3);
    u.receive(1);
    u.receive(2);
    expect(u.read(2) & 0x0f).toBe(4);
    expect([u.read(5) & 1, u.read(0), u.read(0), u.read(5) & 1]).toEqual([1, 1, 2, 0]);
    expect(u.read(2) & 0x0f).toBe(2);
    expect(line).toEqual([true, false]);
  });

  test('what does not fit is lost, and said once', () => {
    const { uart: u } = uart();
    u.write(2, 1);
    for (let i = 0; i < 20; i++) u.receive(i);
    expect(u.room).toBe(0);
    expect([u.read(5) & 2, u.read(5) & 2]).toEqual([2, 0]);
    expect(Array.from({ length: 17 }, () => u.read(0)).slice(14)).toEqual([14, 15, 0]);
  });

  test('loopback sends to itself and not to the line; reset forgets everything', () => {
    const { uart: u, sent, line } = uart();
    u.write(4, 0x10);
    u.write(1, 1);
    u.write(0, 7);
    expect([sent, line]).toEqual([[], [true]]);
    u.reset();
    expect([u.read(0), u.read(1), u.read(4), line]).toEqual([0, 0, 0, [true, false]]);
  });
});
