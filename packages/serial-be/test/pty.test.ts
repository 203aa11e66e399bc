import { closeSync, existsSync, lstatSync, mkdtempSync, openSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { farEndAttr } from '@emudev/serial-emu/contract';
import { countOpenFds, linux, withFaults, type Sys } from '@emudev/linux';
import { OUTGOING_BYTES, PtyFarEnd } from '../src/index.ts';
import { rig } from './rig.ts';

const folder = mkdtempSync(join(tmpdir(), 'serial-pty-'));
afterAll(() => { rmSync(folder, { recursive: true }); });
let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

/** A program that has the terminal open. */
class Terminal implements Disposable {
  readonly fd: number;
  constructor(path: string) {
    this.fd = openSync(path, 'r+');
    linux.setNonBlocking(this.fd, true);
  }
  write(text: string): void { expect(linux.write(this.fd, Buffer.from(text, 'latin1'))).toBe(text.length); }
  async read(count: number): Promise<string> {
    let text = '';
    const into = new Uint8Array(4096);
    for (const deadline = Date.now() + 10_000; text.length < count;) {
      const n = linux.read(this.fd, into);
      if (n === undefined) await new Promise((resolve) => setImmediate(resolve));
      else text += Buffer.from(into.subarray(0, n)).toString('latin1');
      if (Date.now() > deadline) throw new Error(`${text.length} of ${count} bytes came`);
    }
    return text;
  }
  [Symbol.dispose](): void { closeSync(this.fd); }
}

describe('a pseudo terminal', () => {
  test('is raw again for the next program, however the last one has left it', async () => {
    await using r = await rig('to=pty');
    const { place } = r.backEnds[0]!;
    const guest = r.ports[0]!.open();
    {
      using _terminal = new Terminal(place);
      await r.event('present');
      expect(spawnSync('stty', ['-F', place, 'sane']).status).toBe(0);
    }
    await r.event('absent');
    using next = new Terminal(place);
    await r.event('present');
    await guest.send('a\nb');
    next.write('c\rd');
    expect(await next.read(3)).toBe('a\nb');
    expect((await guest.receive(3)).toString()).toBe('c\rd');
  });

  test('every byte both ways, as it is; where it is can be asked for; carrier is the program that has it open', async () => {
    await using r = await rig('port=1,to=pty');
    const [backEnd] = r.backEnds;
    const guest = r.ports[1]!.open();
    expect(r.card.emudev.getAttr(farEndAttr(1))).toMatch(/^\/dev\/pts\/\d+$/);
    expect(await r.event('open')).toEqual({ device: 'serial_be0', event: 'open', place: backEnd!.place });
    expect(guest.modemStatus).toBe(0x10);
    {
      using terminal = new Terminal(backEnd!.place);
      await r.event('present');
      expect(guest.modemStatus).toBe(0xb0);
      const all = Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join('');
      terminal.write(all);
      expect((await guest.receive(256)).toString('latin1')).toBe(all);
      await guest.send(all);
      expect(await terminal.read(256)).toBe(all);
    }
    await r.event('absent');
    expect(guest.modemStatus).toBe(0x10);
    await guest.send('nobody reads this');
    using again = new Terminal(backEnd!.place);
    await r.event('present');
    await guest.send('but this');
    expect(await again.read(8)).toBe('but this');
    expect(backEnd!.counters).toEqual({ fromGuest: 256 + 17 + 8, toGuest: 256, discarded: 17, breaksFromGuest: 0 });
  });

  test('hold: the guest waits, when the buffer is full, until somebody comes; then all of it is there', async () => {
    await using r = await rig('to=pty,when-absent=hold');
    const guest = r.ports[0]!.open();
    expect(guest.modemStatus).toBe(0);
    const text = 'x'.repeat(OUTGOING_BYTES) + 'the last sixteen';
    await guest.send(text);
    expect(guest.lineStatus & 0x60, 'the FIFO is full').toBe(0);
    using terminal = new Terminal(r.backEnds[0]!.place);
    expect(await terminal.read(text.length)).toBe(text);
    expect(guest.lineStatus & 0x60).toBe(0x60);
  });

  test('a program that reads nothing makes the guest wait, and costs nobody a byte', async () => {
    await using r = await rig('to=pty');
    const guest = r.ports[0]!.open();
    using terminal = new Terminal(r.backEnds[0]!.place);
    await r.event('present');
    const block = Buffer.alloc(200_000, 'abcdefghijklmnopqrstuvwxyz0123456789');
    let sent = 0;
    for (let idle = 0; idle < 50;) {
      if ((guest.lineStatus & 0x20) === 0) {
        idle++;
        await new Promise((resolve) => setImmediate(resolve));
      } else {
        idle = 0;
        await guest.send(block.subarray(sent, sent += 16));
      }
    }
    expect(sent).toBeLessThan(block.length);
    expect(await terminal.read(sent)).toBe(block.toString('latin1', 0, sent));
  });

  test('a guest without RTS is given nothing; with flow=none it is', async () => {
    await using r = await rig('to=pty', 'port=1,to=pty,flow=none');
    const [polite, rude] = r.ports.map((port) => port.open());
    polite!.setRts(false);
    rude!.setRts(false);
    using first = new Terminal(r.backEnds[0]!.place);
    using second = new Terminal(r.backEnds[1]!.place);
    await r.event('present');
    await r.event('present');
    first.write('hello');
    second.write('hello');
    expect((await rude!.receive(5)).toString()).toBe('hello');
    expect(polite!.take().toString()).toBe('');
    polite!.setRts(true);
    expect((await polite!.receive(5)).toString()).toBe('hello');
  });

  test('what the program sent before it closed arrives', async () => {
    await using r = await rig('to=pty');
    const guest = r.ports[0]!.open();
    guest.setRts(false);
    {
      using terminal = new Terminal(r.backEnds[0]!.place);
      terminal.write('y'.repeat(3000));
    }
    guest.setRts(true);
    expect((await guest.receive(3000)).toString()).toBe('y'.repeat(3000));
  });

  test('a stopped card moves nothing and loses nothing', async () => {
    await using r = await rig('to=pty');
    const guest = r.ports[0]!.open();
    using terminal = new Terminal(r.backEnds[0]!.place);
    await r.event('present');
    await r.card.emudev.stop();
    terminal.write('down');
    await guest.send('0123456789abcdef');
    expect([guest.lineStatus, guest.take().length]).toEqual([0, 0]);
    await r.card.emudev.start();
    expect(await terminal.read(16)).toBe('0123456789abcdef');
    expect((await guest.receive(4)).toString()).toBe('down');
  });
});

describe('link=', () => {
  const link = join(folder, 'vm0');
  test('points to the terminal, replaces what a killed process has left, and is removed', async () => {
    symlinkSync('/dev/pts/no-more', link);
    {
      await using r = await rig(`to=pty,link=${link}`);
      expect(r.backEnds[0]!.place).toBe(link);
      const guest = r.ports[0]!.open();
      expect(readlinkSync(link)).toMatch(/^\/dev\/pts\/\d+$/);
      using terminal = new Terminal(link);
      terminal.write('a');
      expect((await guest.receive(1)).toString()).toBe('a');
    }
    expect(lstatSync(link, { throwIfNoEntry: false })).toBeUndefined();
  });

  test('one terminal of this process has it at a time, however its path is written', async () => {
    await using r = await rig(`to=pty,link=${link}`);
    const target = readlinkSync(link);
    const again = `${folder}/../${basename(folder)}/vm0`;
    await expect(r.bus.probe(`serial_be1,emu=emu_serial0,port=1,to=pty,link=${again}`)).rejects.toMatchObject({ code: 'EEXIST', message: expect.stringContaining('another terminal of this process') as string });
    expect(readlinkSync(link)).toBe(target);
    await r.bus.remove('serial_be0');
    await r.bus.probe(`serial_be1,emu=emu_serial0,port=1,to=pty,link=${again}`);
  });

  test('never replaces a file, nor a link to elsewhere, nor removes what is not its own', async () => {
    writeFileSync(link, 'precious');
    await expect(rig(`to=pty,link=${link}`)).rejects.toMatchObject({ code: 'EEXIST' });
    rmSync(link);
    symlinkSync('/etc/passwd', link);
    await expect(rig(`to=pty,link=${link}`)).rejects.toMatchObject({ code: 'EEXIST' });
    rmSync(link);
    {
      await using _r = await rig(`to=pty,link=${link}`);
      rmSync(link);
      writeFileSync(link, 'precious');
    }
    expect(existsSync(link)).toBe(true);
    rmSync(link);
  });
});

describe('when the system does not play along', () => {
  const events = (): { log: string[]; present: (p: boolean) => void; data: () => void; writable: () => void; break: () => void; report: (e: string, m: string) => void } => {
    const log: string[] = [];
    return { log, present: (p) => log.push(`present ${p}`), data: () => {}, writable: () => log.push('writable'), break: () => {}, report: (e, m) => log.push(`${e} ${m}`) };
  };
  test.each(['ptyOpen', 'ttySetRaw', 'ptyOpenSlave'] as const satisfies readonly (keyof Sys)[])('%s fails: the error is the kernel\'s, and no descriptor is left', (call) => {
    expect(() => new PtyFarEnd({ sys: withFaults(linux, [{ call, nth: 1, errno: 'EMFILE' }]) }, events())).toThrow(expect.objectContaining({ code: 'EMFILE' }));
  });

  test('a terminal that says it is writable and takes nothing is not asked all the time', async () => {
    const e = events();
    let writes = 0;
    const sys: Sys = { ...linux, write: () => void writes++ };
    const end = new PtyFarEnd({ sys }, e);
    const retry = (): void => void end.write(Uint8Array.of(1));
    e.writable = retry;
    using _terminal = new Terminal(end.place);
    await expect.poll(() => e.log).toContain('present true');
    retry();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(writes).toBeGreaterThan(2);
    expect(writes).toBeLessThan(30);
    end.close();
  });

  test('EAGAIN and short writes: every byte once', async () => {
    const e = events();
    let call = 0;
    const sys: Sys = { ...linux, write: (fd, bytes) => (call++ % 3 === 1 ? undefined : linux.write(fd, bytes.subarray(0, 3))) };
    const end = new PtyFarEnd({ sys }, e);
    using terminal = new Terminal(end.place);
    await expect.poll(() => e.log).toContain('present true');
    const bytes = Buffer.from('the quick brown fox jumps over the lazy dog');
    let at = 0;
    const go = (): void => {
      for (let n = 1; n > 0 && at < bytes.length;) at += n = end.write(bytes.subarray(at));
    };
    e.writable = go;
    go();
    expect(await terminal.read(bytes.length)).toBe(bytes.toString());
    end.close();
  });
});
