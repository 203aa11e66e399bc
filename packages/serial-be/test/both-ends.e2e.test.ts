/**
 * A device process at work: our own client drives its UARTs over a vfio-user socket, programs hold the far ends. Data both ways at
 * once by checksum, kill -9 of either side, descriptors counted.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { countOpenFds, linux } from '@emudev/linux';
import { VfioUserClient } from '@emudev/vfio-user-client';

const BYTES = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'serial-e2e-'));
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});
let before = 0;
beforeEach(() => void (before = countOpenFds()));
afterEach(() => void expect(countOpenFds()).toBe(before));

async function start(file: string, ...args: readonly string[]): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(process.execPath, ['--no-warnings', script(file), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  const [said] = (await Promise.race([once(child.stdout!, 'data'), once(child, 'exit').then(() => ['ended'])])) as [unknown];
  return { child, said: String(said) };
}
async function end(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  const closed = once(child, 'close');
  child.kill(signal);
  await closed;
  children.delete(child);
}
const descriptorsOf = (child: ChildProcess): number => readdirSync(`/proc/${child.pid}/fd`).length;

interface Program extends Disposable {
  /** What it takes now. */
  write(bytes: Buffer): number;
  readonly parts: Buffer[];
  poll(): void;
}

function terminal(path: string): Program {
  const fd = openSync(path, 'r+');
  linux.setNonBlocking(fd, true);
  const parts: Buffer[] = [];
  const into = new Uint8Array(65536);
  return {
    parts,
    write: (bytes) => linux.write(fd, bytes) ?? 0,
    poll() {
      const n = linux.read(fd, into) ?? 0;
      if (n > 0) parts.push(Buffer.from(into.subarray(0, n)));
    },
    [Symbol.dispose]: () => { closeSync(fd); },
  };
}

async function tcp(place: string): Promise<Program & { readonly socket: Socket }> {
  const [host, port] = place.split(':');
  const socket = connect(Number(port), host);
  await once(socket, 'connect');
  socket.on('error', () => {});
  const parts: Buffer[] = [];
  socket.on('data', (data) => parts.push(data));
  return {
    socket, parts,
    write(bytes) {
      if (socket.writableLength > 65536) return 0;
      socket.write(bytes);
      return bytes.length;
    },
    poll() {},
    [Symbol.dispose]: () => { socket.destroy(); },
  };
}

/** Registers of a port over the socket. */
class Port {
  readonly #client: VfioUserClient;
  readonly #bar: number;
  constructor(client: VfioUserClient, bar: number) {
    this.#client = client;
    this.#bar = bar;
  }
  read(register: number): Promise<number> { return this.#client.regions.read8(this.#bar, register); }
  write(register: number, value: number): Promise<void> { return this.#client.regions.write8(this.#bar, register, value); }
  async open(): Promise<this> {
    for (const [register, value] of [[3, 0x83], [0, 1], [1, 0], [3, 3], [2, 0xc7], [4, 0x0b]] as const) await this.write(register, value);
    return this;
  }
  /** What is there. */
  async take(into: number[]): Promise<void> {
    if (((await this.read(5)) & 1) !== 0) into.push(await this.read(0));
  }
  async put(bytes: Uint8Array): Promise<void> {
    await this.#client.regions.writeMulti(Array.from(bytes, (byte) => ({ region: this.#bar, offset: 0, data: Uint8Array.of(byte) })));
  }

  /** All of it, a FIFO full whenever the holding register is empty. */
  async send(bytes: Uint8Array): Promise<void> {
    let status = await this.read(5);
    for (let at = 0; at < bytes.length;) {
      if ((status & 0x20) === 0) status = await this.read(5);
      else {
        // One round trip: the next look is behind the bytes.
        [, status] = await Promise.all([this.put(bytes.subarray(at, at + 16)), this.read(5)]);
        at += 16;
      }
    }
  }
  /** So many, those that the trigger level promises in one round trip. LSR is left to the sender: reading it has effects. */
  async receive(count: number): Promise<number[]> {
    const all: number[] = [];
    await this.write(1, 1);
    let cause = await this.read(2);
    while (all.length < count) {
      const ready = (cause & 0x0f) === 4 ? 14 : (cause & 0x0f) === 0x0c ? 1 : 0;
      const [next, ...bytes] = await Promise.all([...Array.from({ length: ready }, () => this.read(0)), this.read(2)]).then((read) => [read.pop()!, ...read]);
      all.push(...bytes);
      cause = next!;
    }
    return all;
  }
}

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each(['to=pty', 'to=tcp,listen=0'])('a far end %s', (args) => {
  test('1 MiB both ways at once', async () => {
    const socket = join(folder, 'bulk.sock');
    const { child, said } = await start('device.process.ts', socket, args);
    const [place] = JSON.parse(said) as [string];
    {
      await using client = await VfioUserClient.connect(socket);
      const port = await new Port(client, 0).open();
      using program = args === 'to=pty' ? terminal(place) : await tcp(place);
      while (((await port.read(6)) & 0x80) === 0) await nextTurn();
      const [down, up] = [randomBytes(BYTES), randomBytes(BYTES)];
      const started = performance.now();
      const far = async (): Promise<Buffer> => {
        let got = 0;
        for (let written = 0; written < BYTES || got < BYTES;) {
          const count = written < BYTES ? program.write(down.subarray(written, written + 16_384)) : 0;
          written += count;
          program.poll();
          const now = program.parts.reduce((sum, part) => sum + part.length, 0);
          if (count === 0 && now === got) await delay(1);
          else await nextTurn();
          got = now;
          if (program.parts.length > 100) program.parts.splice(0, program.parts.length, Buffer.concat(program.parts));
        }
        return Buffer.concat(program.parts);
      };
      const [received, arrived] = await Promise.all([port.receive(BYTES), far(), port.send(up)]);
      const seconds = (performance.now() - started) / 1000;
      console.log(`${args}: ${BYTES} bytes each way at once in ${seconds.toFixed(1)} s, ${Math.round(BYTES / seconds)} bytes/s each way`);
      expect(sha(Uint8Array.from(received))).toBe(sha(down));
      expect(sha(arrived)).toBe(sha(up));
    }
    await end(child, 'SIGTERM');
    expect(child.exitCode).toBe(0);
  });
});

test('kill -9 of the consumer: the terminal and the TCP connection stay, the next consumer finds a card at power-on, no descriptor is left', async () => {
  const socket = join(folder, 'consumer.sock');
  const { child: device, said } = await start('device.process.ts', socket, 'to=pty', 'to=tcp,listen=0');
  const [pty, address] = JSON.parse(said) as [string, string];
  {
    using program = terminal(pty);
    using other = await tcp(address);
    const count = async (): Promise<number> => {
      await using client = await VfioUserClient.connect(socket);
      await client.regions.read8(0, 5);
      return descriptorsOf(device);
    };
    const descriptors = await count();
    for (let round = 0; round < 3; round++) {
      const { child, said: sending } = await start('consumer.process.ts', socket);
      expect(sending).toBe('sending\n');
      await end(child, 'SIGKILL');
    }
    expect(await count()).toBe(descriptors);
    // What the dead had sent has arrived, as it was.
    await expect.poll(() => {
      program.poll();
      return Buffer.concat(program.parts).length;
    }).toBeGreaterThan(3 * 20 * 16);
    expect(new Set(Buffer.concat(program.parts))).toEqual(new Set([0x55]));
    await using client = await VfioUserClient.connect(socket);
    const [first, second] = [new Port(client, 0), new Port(client, 1)];
    expect([await first.read(3), await first.read(4), await first.read(5)]).toEqual([0, 0, 0x60]);
    await first.open();
    await second.open();
    await second.put(Buffer.from('hello tcp'));
    await second.read(5);
    await expect.poll(() => Buffer.concat(other.parts).toString()).toBe('hello tcp');
    program.write(Buffer.from('hello'));
    const received: number[] = [];
    while (received.length < 5) await first.take(received);
    expect(Buffer.from(received).toString()).toBe('hello');
  }
  await end(device, 'SIGTERM');
  expect(device.exitCode).toBe(0);
});

test('kill -9 of the device process: everybody hears of it, and a new one takes the place of the old', async () => {
  const socket = join(folder, 'device.sock');
  const link = join(folder, 'vm0');
  const path = join(folder, 'far.sock');
  const { child } = await start('device.process.ts', socket, `to=pty,link=${link}`, `to=unix,listen=${path}`);
  const client = await VfioUserClient.connect(socket);
  const far = connect(path);
  await once(far, 'connect');
  // With or without ECONNRESET, as the kernel likes.
  far.on('error', () => {});
  const ended = new Promise((resolve) => far.resume().once('close', resolve));
  await end(child, 'SIGKILL');
  await ended;
  await expect(client.regions.read8(0, 5)).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  await client[Symbol.asyncDispose]();
  const { child: again, said } = await start('device.process.ts', socket, `to=pty,link=${link}`, `to=unix,listen=${path}`);
  expect(JSON.parse(said)).toEqual([link, path]);
  {
    using program = terminal(link);
    await using next = await VfioUserClient.connect(socket);
    const port = await new Port(next, 0).open();
    program.write(Buffer.from('x'));
    const received: number[] = [];
    while (received.length < 1) await port.take(received);
    expect(received).toEqual([0x78]);
  }
  await end(again, 'SIGTERM');
  expect(readdirSync(folder).filter((name) => name === 'vm0' || name === 'far.sock')).toEqual([]);
});
