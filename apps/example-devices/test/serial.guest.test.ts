/**
 * One process, three devices, one of each kind of interrupt, in a stock guest: its own lspci shows what the devices describe, and
 * its own serial driver gets its interrupts.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { Window } from '@emudev/dma';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { Serial } from '../src/serial.ts';

const KINDS = ['intx', 'msi', 'msix'] as const;
const folder = mkdtempSync(join(tmpdir(), 'serial-'));
const servers = KINDS.map((interrupts) => new VfioUserServer(new Serial({ interrupts }), { window: Window.open() }));
let guest: Guest;
/** `lspci -vv` of the guest, one block per device, in the order of KINDS. */
let blocks: string[];

beforeAll(async () => {
  const sockets = KINDS.map((kind) => join(folder, `${kind}.sock`));
  for (const [i, server] of servers.entries()) await server.listen(sockets[i]!);
  guest = await Guest.boot({ sockets });
  const { output } = await guest.run('lspci -vv -d 9710:9900 2>/dev/null');
  blocks = output.trim().split(/\n\n+/);
});

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
  for (const server of servers) await server.close();
  rmSync(folder, { recursive: true });
});

describe.each(KINDS.map((kind, i) => ({ kind, i })))('a serial port with $kind', ({ kind, i }) => {
  test('is shown by lspci as described', () => {
    const block = blocks[i]!;
    expect(block).toMatch(/Class 0700: Device 9710:9900 \(prog-if 02\)/);
    expect(block).toMatch(/Subsystem: Device a000:1000/);
    expect(block).toMatch(/Region 0: I\/O ports at [0-9a-f]+ \[size=8\]/);
    expect(block).toMatch(/Kernel driver in use: serial/);
    if (kind === 'intx') {
      expect(block).toMatch(/Interrupt: pin A routed to IRQ \d+/);
      expect(block).not.toMatch(/Capabilities/);
    } else if (kind === 'msi') {
      expect(block).toMatch(/Capabilities: \[40\] MSI: Enable\+ Count=1\/1 Maskable\+ 64bit\+/);
    } else {
      expect(block).toMatch(/Region 1: Memory at [0-9a-f]+ \(32-bit, non-prefetchable\) \[size=8K\]/);
      expect(block).toMatch(/Capabilities: \[40\] MSI-X: Enable\+ Count=1 Masked-\n\t\tVector table: BAR=1 offset=00000000\n\t\tPBA: BAR=1 offset=00001000/);
    }
  });

  test('the stock driver sends and receives through interrupts of that kind', async () => {
    const { output: kernel } = await guest.run('dmesg');
    const address = /^(\S+) /.exec(blocks[i]!)![1]!;
    const tty = new RegExp(`${address.replace('.', '\\.')}: (ttyS\\d+) at .* is a 16550A`).exec(kernel)?.[1];
    expect(tty, kernel).toBeDefined();
    // Longer than any FIFO: without interrupts it would not get far. What comes back is what went out.
    // Every byte is some round trips to the device: on a busy machine that takes its time. A byte that was lost shows as an overrun ("oe").
    const { output } = await guest.run(`
      stty -F /dev/${tty} raw -echo 115200
      seq -s, 1 700 | head -c 2000 > /tmp/sent
      timeout 200 head -c 2000 /dev/${tty} > /tmp/received &
      exec 3> /dev/${tty}
      cat /tmp/sent >&3
      wait
      cmp /tmp/sent /tmp/received && echo equal
      cat /proc/tty/driver/serial
      grep '${tty}$' /proc/interrupts`, { timeoutMs: 240_000 });
    expect(output).toMatch(/^equal$/m);
    const line = output.split('\n').find((l) => l.endsWith(tty!))!;
    const count = line.trim().split(/\s+/).slice(1, 3).reduce((sum, n) => sum + Number(n), 0);
    expect(count, line).toBeGreaterThan(1);
    expect(line).toMatch(kind === 'intx' ? /IO-APIC.*fasteoi/ : kind === 'msi' ? /PCI-MSI-/ : /PCI-MSIX-/);
  });
});
