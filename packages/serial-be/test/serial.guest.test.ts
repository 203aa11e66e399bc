/**
 * A card of two ports in a stock guest: the kernel's own 8250_pci makes two ttys of it, both on one INTx line; a shell answers on one
 * pseudo terminal while the other carries data both ways at once, every byte accounted for.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Window } from '@emudev/dma';
import { VdevBus, type EmulatedPciVdev, type VdevDevice } from '@emudev/emudev';
import { Guest } from '@emudev/guest';
import { linux } from '@emudev/linux';
import { countersAttr, driver, lineSettingsAttr, type SerialCard } from '@emudev/serial-emu';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { driver as backEndDriver } from '../src/index.ts';

const BYTES = 256 << 10;
const folder = mkdtempSync(join(tmpdir(), 'serial-guest-'));
const bus = new VdevBus().register(driver).register(backEndDriver);
let card: EmulatedPciVdev<SerialCard>;
const servers: VfioUserServer[] = [];
let guest: Guest;
/** The guest's names for port 0 and port 1. */
let ttys: string[];

/** The shell's prompt; ash then asks where the cursor is. */
const PROMPT = /[#$] (\x1b\[6n)?$/;

/** A program on the host that has a port's terminal open. */
class Terminal implements Disposable {
  readonly fd: number;
  text = '';
  readonly parts: Buffer[] = [];
  constructor(device: VdevDevice) {
    this.fd = openSync((device as VdevDevice & { place: string }).place, 'r+');
    linux.setNonBlocking(this.fd, true);
  }
  poll(): number {
    const into = new Uint8Array(65536);
    const n = linux.read(this.fd, into) ?? 0;
    if (n > 0) this.parts.push(Buffer.from(into.subarray(0, n)));
    return n;
  }
  async readUntil(pattern: RegExp, timeoutMs = 30_000): Promise<string> {
    for (const deadline = Date.now() + timeoutMs; !pattern.test(this.text);) {
      if (this.poll() > 0) this.text += this.parts.splice(0).join('');
      else await delay(2);
      if (Date.now() > deadline) throw new Error(`no ${String(pattern)} in ${JSON.stringify(this.text)}`);
    }
    const { text } = this;
    this.text = '';
    return text;
  }
  write(text: string): void { expect(linux.write(this.fd, Buffer.from(text))).toBe(text.length); }
  [Symbol.dispose](): void { closeSync(this.fd); }
}

beforeAll(async () => {
  card = (await bus.probe('emu_serial0,ports=2')).device as EmulatedPciVdev<SerialCard>;
  await bus.probe(`serial_be0,emu=emu_serial0,port=0,to=pty,link=${join(folder, 'shell')}`);
  await bus.probe('serial_be1,emu=emu_serial0,port=1,to=pty');
  await card.emudev.configure({});
  await card.emudev.start();
  const single = (await bus.probe('emu_serial1,ports=1')).device as EmulatedPciVdev<SerialCard>;
  const sockets = ['two', 'one'].map((name) => join(folder, `${name}.sock`));
  for (const [i, { pci }] of [card, single].entries()) {
    servers.push(new VfioUserServer(pci, { window: Window.open() }));
    await servers[i]!.listen(sockets[i]!);
  }
  guest = await Guest.boot({ sockets });
});

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
  for (const server of servers) await server.close();
  await bus[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const deviceOf = (name: string): VdevDevice => bus.byName(name)!.device;

describe('a serial card of two ports', () => {
  test('the stock driver binds, and makes a tty of each port, on one line', async () => {
    const { output: blocks } = await guest.run('lspci -vv -d 4348:3253 2>/dev/null');
    const [block, other] = blocks.trim().split(/\n\n+/);
    expect(block).toMatch(/Class 0700: Device 4348:3253 \(rev 10\) \(prog-if 02\)/);
    expect(block).toMatch(/Subsystem: Device 4348:3253/);
    expect(block).toMatch(/Interrupt: pin A routed to IRQ \d+/);
    expect(block).toMatch(/Region 0: I\/O ports at [0-9a-f]+ \[size=8\]/);
    expect(block).toMatch(/Region 1: I\/O ports at [0-9a-f]+ \[size=8\]/);
    expect(block).toMatch(/MSI: Enable- Count=1\/1/);
    expect(block).toMatch(/Kernel driver in use: serial/);
    const { output: kernel } = await guest.run('dmesg');
    const ttysOf = (lspci: string | undefined): string[] => {
      const address = /^(\S+) /.exec(lspci!)![1]!.replace('.', '\\.');
      return [...kernel.matchAll(new RegExp(`${address}: (ttyS\\d+) at I/O \\S+ \\(irq = \\d+, base_baud = 115200\\) is a 16550A`, 'g'))].map((match) => match[1]!);
    };
    ttys = ttysOf(block);
    expect(ttys, kernel).toHaveLength(2);
    expect(other).toMatch(/Region 0: I\/O ports at [0-9a-f]+ \[size=8\]/);
    expect(other).not.toMatch(/Region 1/);
    expect(ttysOf(other), kernel).toHaveLength(1);
  });

  test('a shell on a port: commands typed on the host, answers read there', async () => {
    using terminal = new Terminal(deviceOf('serial_be0'));
    // Not with "&": a shell's background processes ignore SIGINT, and all that they start.
    await guest.run(`start-stop-daemon -S -b -x $(command -v getty) -- -n -l /bin/sh -L 115200 ${ttys[0]} vt100`);
    await terminal.readUntil(PROMPT);
    terminal.write('echo "six times seven: $((6 * 7))"; tty\n');
    expect(await terminal.readUntil(/six times seven: 42\r\n\/dev\/\w+\r\n/)).toContain(`/dev/${ttys[0]}`);
    // The terminal's own Ctrl-C reaches what runs there.
    terminal.write('sleep 1000; echo "ended with $?"\n');
    await terminal.readUntil(/"\r\n/);
    await guest.until(`ps | grep -c '[s]leep 1000'`, (count) => Number(count) > 0);
    terminal.write('\x03');
    await terminal.readUntil(PROMPT);
    terminal.write('echo still here | tr a-z A-Z\n');
    await terminal.readUntil(/STILL HERE/);
    expect(card.emudev.getAttr(lineSettingsAttr(0))).toEqual({ baud: 115_200, dataBits: 8, parity: 'none', stopBits: 1 });
  });

  test('data both ways at once, while the shell answers: not a byte is lost', async () => {
    using terminal = new Terminal(deviceOf('serial_be1'));
    const [down, tty] = [randomBytes(BYTES), ttys[1]];
    const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    await guest.run(`
      exec 3<>/dev/${tty}
      stty -F /dev/${tty} raw -echo 115200
      head -c ${BYTES} /dev/urandom > /tmp/up
      (head -c ${BYTES} <&3 | sha256sum > /tmp/down.sha; touch /tmp/down.done) > /dev/null 2>&1 &
      (cat /tmp/up >&3; touch /tmp/up.done) > /dev/null 2>&1 &`);
    using shell = new Terminal(deviceOf('serial_be0'));
    shell.write('\necho alive-$((1 + 1))\n');
    const started = performance.now();
    let at = 0;
    let got = 0;
    for (const deadline = Date.now() + 240_000; got < BYTES || at < BYTES;) {
      const written = at < BYTES ? linux.write(terminal.fd, down.subarray(at, at + 4096)) ?? 0 : 0;
      const read = terminal.poll();
      at += written;
      got += read;
      if (written === 0 && read === 0) await delay(1);
      if (Date.now() > deadline) throw new Error(`${at} bytes went down, ${got} came up; ${card.emudev.getAttr(countersAttr(1))}`);
    }
    await guest.until('ls /tmp/*.done 2>/dev/null | wc -l', (count) => count.trim() === '2', { timeoutMs: 120_000 });
    const seconds = (performance.now() - started) / 1000;
    console.log(`${BYTES} bytes each way at once in ${seconds.toFixed(1)} s: ${Math.round(BYTES / seconds)} bytes/s each way; ${card.emudev.getAttr(countersAttr(1))}`);
    const { output } = await guest.run('cat /tmp/down.sha; sha256sum < /tmp/up');
    const [downSha, upSha] = output.split('\n').map((line) => line.split(' ')[0]);
    expect(downSha).toBe(sha(down));
    expect(upSha).toBe(sha(Buffer.concat(terminal.parts)));
    expect(card.emudev.getAttr(countersAttr(1))).toMatch(/overrun:0 break:0$/);
    await shell.readUntil(/alive-2/);
    const { output: interrupts } = await guest.run(`grep -E '${ttys.join('|')}' /proc/interrupts`);
    console.log(interrupts.trim());
    expect(interrupts).toMatch(new RegExp(`IO-APIC.*fasteoi.*${ttys[0]!}`));
  });
});
