/** The product in a process of its own, and our driver of it in this one (or in a third, to be killed). */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { attachWindow, Window } from '@emudev/dma';
import { FRAME_RECORD_BYTES, allocateBurst, type CreateDatapath, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { deviceAt, IavfPort, type IavfPortOptions } from '@emudev/iavf-pmd';

const DEVICE_PROGRAM = fileURLToPath(new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url));

/** Resolves with the first line that contains `text`; rejects with the last one if the process ends before. */
export async function lineOf(child: ChildProcess, text: string): Promise<string> {
  let last = '';
  for await (const line of createInterface({ input: child.stdout! })) {
    last = line;
    if (line.includes(text)) {
      child.stdout!.resume();
      return line;
    }
  }
  throw new Error(`the process ended: ${last}`);
}

/** Resolves when so many sockets are there. */
async function listening(child: ChildProcess, sockets: number): Promise<void> {
  let last = '';
  for await (const line of createInterface({ input: child.stdout! })) {
    last = line;
    if (line.includes(' listens on ') && --sockets === 0) {
      child.stdout!.resume();
      return;
    }
  }
  throw new Error(`the process ended: ${last}`);
}

export class DeviceProcess implements AsyncDisposable {
  readonly socket: string;
  /** Of the second card of `startPair`. */
  readonly otherSocket: string;
  readonly #folder: string;
  readonly #child: ChildProcess;

  /** A card that sends back what it is sent. */
  static start(...options: string[]): Promise<DeviceProcess> {
    return DeviceProcess.#start(1, (socket) => ['--socket', socket, '--far', 'loop', ...options]);
  }

  /** Two cards: what one is sent comes out of the other. */
  static startPair(): Promise<DeviceProcess> {
    return DeviceProcess.#start(2, (...sockets) => [
      ...sockets.flatMap((socket, n) => ['--vdev', `emu_iavf${n},path=${socket},queues=1`, '--vdev', `net_iavf_be${n},emu=emu_iavf${n}`]), '--forward', 'net_iavf_be0=net_iavf_be1',
    ]);
  }

  static async #start(cards: number, options: (socket: string, otherSocket: string) => string[]): Promise<DeviceProcess> {
    const device = new DeviceProcess(options);
    try {
      await listening(device.#child, cards);
      return device;
    } catch (error) {
      await device[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(options: (socket: string, otherSocket: string) => string[]) {
    this.#folder = mkdtempSync(join(tmpdir(), 'iavf-pmd-'));
    this.socket = join(this.#folder, 'iavf.sock');
    this.otherSocket = join(this.#folder, 'iavf1.sock');
    this.#child = spawn(process.execPath, [DEVICE_PROGRAM, '--log-level', 'error', ...options(this.socket, this.otherSocket)], { stdio: ['ignore', 'pipe', 'inherit'] });
  }

  /** Open descriptors, memory mappings, and those of a driver's memory, at present. */
  resources(): { readonly fds: number; readonly mappings: number; readonly ofDrivers: number } {
    const proc = `/proc/${this.#child.pid}`;
    const mappings = readFileSync(`${proc}/maps`, 'utf8').trimEnd().split('\n');
    return { fds: readdirSync(`${proc}/fd`).length, mappings: mappings.length, ofDrivers: mappings.filter((line) => line.includes('memfd:iavf-pmd')).length };
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) {
      const exited = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A started port with its link up and its data path in this thread, and a burst to send from and one to receive into. */
export class Driver implements AsyncDisposable {
  readonly window: Window;
  readonly port: IavfPort;
  readonly datapath: PortDatapath;
  readonly tx: OwnedBurst;
  readonly rx: OwnedBurst;

  static async start(address: string, options: IavfPortOptions = {}): Promise<Driver> {
    const port = await IavfPort.open('net_iavf0', deviceAt(address), options);
    try {
      const queues = options.queues ?? 1;
      await port.configure({ rxQueues: queues, txQueues: queues, peerTxCapabilities: 0 });
      await port.start();
      while (!port.link().up) await new Promise((resolve) => port.onLink(resolve));
      const window = Window.open();
      const { module, init } = port.datapath();
      const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
      return new Driver(window, port, await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0 }, init as never));
    } catch (error) {
      await port.close();
      throw error;
    }
  }

  private constructor(window: Window, port: IavfPort, datapath: PortDatapath) {
    this.window = window;
    this.port = port;
    this.datapath = datapath;
    this.tx = allocateBurst(window, 64);
    this.rx = allocateBurst(window, 64);
  }

  /** Window offset of a record. */
  record(burst: OwnedBurst, index: number): number {
    return burst.records + index * FRAME_RECORD_BYTES;
  }

  /** Sends one frame: record fields beyond data, length and flags by their offset (u16). */
  send(frame: Uint8Array, flags = 0, fields: Readonly<Record<number, number>> = {}): void {
    const { view, u8 } = this.window;
    const at = this.record(this.tx, 0);
    u8.fill(0, at, at + FRAME_RECORD_BYTES);
    u8.set(frame, this.tx.arena);
    view.setUint32(at, this.tx.arena, true);
    view.setUint32(at + 4, frame.length, true);
    view.setUint32(at + 8, flags, true);
    for (const [offset, value] of Object.entries(fields)) view.setUint16(at + Number(offset), value, true);
    if (this.datapath.txBurst(0, this.tx, 1) !== 1) throw new Error('the ring is full');
  }

  /** The next `count` frames: copies, with their flags and VLAN tag. */
  async receive(count: number, timeoutMs = 5000): Promise<{ bytes: Uint8Array; flags: number; tci: number }[]> {
    const { view, u8 } = this.window;
    const frames: { bytes: Uint8Array; flags: number; tci: number }[] = [];
    const deadline = performance.now() + timeoutMs;
    while (frames.length < count) {
      const n = this.datapath.rxBurst(0, this.rx, count - frames.length);
      for (let i = 0; i < n; i++) {
        const at = this.record(this.rx, i);
        const data = view.getUint32(at, true);
        frames.push({ bytes: u8.slice(data, data + view.getUint32(at + 4, true)), flags: view.getUint32(at + 8, true), tci: view.getUint16(at + 12, true) });
      }
      if (n === 0) {
        if (performance.now() > deadline) throw new Error(`${frames.length} of ${count} frames came back`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return frames;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tx[Symbol.dispose]();
    this.rx[Symbol.dispose]();
    this.datapath.close?.();
    await this.port.close();
    this.window[Symbol.dispose]();
  }
}
