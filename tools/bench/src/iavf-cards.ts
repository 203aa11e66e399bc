/** One device process with so many cards, each looped back to itself, and one driver process that has them all. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Child, runMs } from './processes.ts';

const DEVICE_PROGRAM = fileURLToPath(new URL('../../../apps/iavf-device/dist/cli.js', import.meta.url));
const DRIVER_PROGRAM = fileURLToPath(new URL('./iavf-drivers.ts', import.meta.url));
const START_MS = 60_000;

export interface CardsSettings {
  readonly frameBytes: number;
  /** In all; 0: the cards stay idle. */
  readonly inFlight: number;
  readonly burst: number;
  /** Of each card; the driver has an lcore for each. Default 1. */
  readonly queues?: number;
  /** Descriptors of each of the driver's rings. Default 512. */
  readonly rxDescriptors?: number;
  readonly txDescriptors?: number;
  /** Of the device process. Default 1. */
  readonly lcores?: number;
}

export class Cards implements AsyncDisposable {
  readonly device: Child;
  readonly #driver: Child;
  readonly #undo: AsyncDisposableStack;
  /** From the start of the device process until all its sockets listened. */
  readonly startMs: number;

  private constructor(device: Child, driver: Child, undo: AsyncDisposableStack, startMs: number) {
    this.device = device;
    this.#driver = driver;
    this.#undo = undo;
    this.startMs = startMs;
  }

  /** Resolves when every card has link. `socket` names the n-th one's socket. */
  static async start(count: number, socket: (n: number) => string, { frameBytes, inFlight, burst, queues = 1, rxDescriptors = 512, txDescriptors = 512, lcores = 1 }: CardsSettings): Promise<Cards> {
    await using undo = new AsyncDisposableStack();
    const sockets = Array.from({ length: count }, (_, n) => socket(n));
    // On a processor each where there is one lcore each; else the scheduler sees to it.
    const pinned = queues === 1 && lcores === 1;
    const began = performance.now();
    const device = undo.use(new Child('iavf-device', [process.execPath, DEVICE_PROGRAM, ...sockets.flatMap((path) => ['--socket', path]), '--far', 'loop', '--queues', String(queues), '--lcores', String(lcores), '--burst', String(burst), '--log-level', 'error'], pinned ? 0 : undefined));
    for (let n = 0; n < count; n++) await device.line((line) => line.includes(' listens on '), START_MS);
    const startMs = performance.now() - began;
    const driver = undo.use(new Child('iavf-drivers', [process.execPath, DRIVER_PROGRAM, String(frameBytes), String(inFlight), String(burst), String(queues), String(rxDescriptors), String(txDescriptors), ...sockets], pinned ? 1 : undefined));
    await driver.line((line) => line.includes('"ready":true'), START_MS);
    return new Cards(device, driver, undo.move(), startMs);
  }

  /** Resident memory of the device process, MB: what it has touched of its guests' memory included. */
  get residentMb(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.device.process.pid!}/status`, 'utf8'))![1]) / 1024;
  }

  /** What the device process has run so far. */
  get runMs(): number {
    return runMs(this.device.process.pid!);
  }

  /** The device process stands still until `resume`. */
  pause(): void {
    this.device.process.kill('SIGSTOP');
  }

  resume(): void {
    this.device.process.kill('SIGCONT');
  }

  /** Microseconds from the doorbell of a single frame until it has come back through the card's loop. */
  async firstUs(card: number): Promise<number> {
    this.#driver.say(`first ${card}`);
    return (JSON.parse(await this.#driver.line((line) => line.includes('"firstUs"'), START_MS)) as { firstUs: number }).firstUs;
  }

  async count(): Promise<{ readonly received: number; readonly at: number; readonly lost: number }> {
    this.#driver.say('count');
    return JSON.parse(await this.#driver.line((line) => line.includes('"received"'), START_MS)) as { received: number; at: number; lost: number };
  }

  /** Frames that devices had no descriptor for, since the start. Takes a message to each card, so not while anything is measured. */
  async discarded(): Promise<number> {
    this.#driver.say('discarded');
    return (JSON.parse(await this.#driver.line((line) => line.includes('"discarded"'), START_MS)) as { discarded: number }).discarded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#undo.disposeAsync();
  }
}
