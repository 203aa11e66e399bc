/** A card, its back ends, and a guest that drives the registers as a driver would, without a transport. */
import { once } from 'node:events';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { VdevBus, type EmulatedPciVdev } from '@emudev/emudev';
import { driver as cardDriver, type SerialCard } from '@emudev/serial-emu';
import { driver, SERIAL_BACK_END_DIAGNOSTICS, type SerialBackEnd, type SerialBackEndDiagnostic } from '../src/index.ts';

const [DATA, IER, FCR, LCR, MCR, LSR, MSR] = [0, 1, 2, 3, 4, 5, 6] as const;

/** The guest's driver of one port. Polls, as the kernel's console does. */
export class GuestPort {
  readonly #card: SerialCard;
  readonly #bar: number;
  readonly #byte = new Uint8Array(1);

  constructor(card: SerialCard, bar: number) {
    this.#card = card;
    this.#bar = bar;
  }

  read(register: number): number {
    void this.#card.read(this.#bar, register, this.#byte);
    return this.#byte[0]!;
  }
  write(register: number, value: number): void {
    void this.#card.write(this.#bar, register, Uint8Array.of(value));
  }

  /** 115200 8N1, FIFOs, DTR and RTS. */
  open(): this {
    this.write(LCR, 0x83);
    this.write(DATA, 1);
    this.write(IER, 0);
    this.write(LCR, 0x03);
    this.write(FCR, 0x07);
    this.write(MCR, 0x0b);
    return this;
  }
  setRts(on: boolean): void { this.write(MCR, on ? 0x0b : 0x09); }
  setBreak(on: boolean): void { this.write(LCR, on ? 0x43 : 0x03); }
  get modemStatus(): number { return this.read(MSR) & 0xf0; }
  get lineStatus(): number { return this.read(LSR); }

  /** Sends all of it, waiting for the transmitter as long as it takes. */
  async send(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
    for (let i = 0; i < bytes.length;) {
      while ((this.read(LSR) & 0x20) === 0) await nextTurn();
      for (let n = 0; n < 16 && i < bytes.length; n++) this.write(DATA, bytes[i++]!);
    }
    this.read(LSR);
  }
  /** What is there now. */
  take(): Buffer {
    const bytes: number[] = [];
    while ((this.read(LSR) & 1) !== 0) bytes.push(this.read(DATA));
    return Buffer.from(bytes);
  }
  async receive(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let have = 0; have < count;) {
      const part = this.take();
      parts.push(part);
      have += part.length;
      if (part.length === 0) await nextTurn();
    }
    return Buffer.concat(parts);
  }
}

export interface Rig extends AsyncDisposable {
  readonly bus: VdevBus;
  readonly card: SerialCard;
  readonly ports: readonly GuestPort[];
  readonly backEnds: readonly SerialBackEnd[];
  readonly log: readonly SerialBackEndDiagnostic[];
  /** Resolves with the next such event, or one that nobody has waited for yet. */
  event(what: SerialBackEndDiagnostic['event']): Promise<SerialBackEndDiagnostic>;
}

/** A started card of two ports with back ends made of these texts (after `serial_beN,emu=emu_serial0,`). */
export async function rig(...backEndArgs: readonly string[]): Promise<Rig> {
  const log: SerialBackEndDiagnostic[] = [];
  const target = new EventTarget();
  let seen = 0;
  const listen = (message: unknown): void => {
    log.push(message as SerialBackEndDiagnostic);
    target.dispatchEvent(new Event('message'));
  };
  subscribe(SERIAL_BACK_END_DIAGNOSTICS, listen);
  const bus = new VdevBus().register(cardDriver).register(driver);
  const { pci, emudev } = (await bus.probe('emu_serial0,ports=2')).device as EmulatedPciVdev<SerialCard>;
  await emudev.configure({});
  await emudev.start();
  const backEnds: SerialBackEnd[] = [];
  try {
    for (const [i, args] of backEndArgs.entries()) backEnds.push((await bus.probe(`serial_be${i},emu=emu_serial0,${args}`)).device as SerialBackEnd);
  } catch (error) {
    await bus[Symbol.asyncDispose]();
    unsubscribe(SERIAL_BACK_END_DIAGNOSTICS, listen);
    throw error;
  }
  return {
    bus, card: pci, backEnds, log,
    ports: [0, 1].map((bar) => new GuestPort(pci, bar)),
    async event(what) {
      for (;;) {
        for (; seen < log.length; seen++) if (log[seen]!.event === what) return log[seen++]!;
        await once(target, 'message', { signal: AbortSignal.timeout(10_000) });
      }
    },
    async [Symbol.asyncDispose]() {
      await bus[Symbol.asyncDispose]();
      unsubscribe(SERIAL_BACK_END_DIAGNOSTICS, listen);
    },
  };
}
