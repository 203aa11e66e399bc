/** A card with a consumer in memory, and back ends that do as a test says. */
import { EmudevRegistry, type Channel } from '@emudev/emudev';
import { IRQ_MSI, type PciHost } from '@emudev/pci';
import { SerialCard, serialPort, type SerialToBackEnd, type SerialToProvider } from '../src/index.ts';

export const DATA = 0;
export const IER = 1;
export const IIR = 2;
export const FCR = 2;
export const LCR = 3;
export const MCR = 4;
export const LSR = 5;
export const MSR = 6;

export class Host implements PciHost {
  intx = false;
  /** Interrupts by message. */
  messages = 0;
  msi = false;
  get memory(): never { throw new Error('a serial card has no business in memory'); }
  irqFd(index: number): number { return index === IRQ_MSI && this.msi ? 99 : -1; }
  trigger(): boolean {
    this.messages++;
    return this.msi;
  }
  setIntx(asserted: boolean): void { this.intx = asserted; }
  async functionLevelReset(): Promise<void> { return Promise.resolve(); }
}

export class Rig {
  readonly card: SerialCard;
  readonly host: Host = new Host();
  readonly registry: EmudevRegistry = new EmudevRegistry();

  constructor(ports = 1) {
    this.card = new SerialCard({ name: 'emu_serial0', ports }, this.registry);
  }

  /** Configured, started, with a consumer. */
  static async started(ports = 1): Promise<Rig> {
    const rig = new Rig(ports);
    await rig.card.attach(rig.host);
    await rig.card.emudev.configure({});
    await rig.card.emudev.start();
    return rig;
  }

  read(register: number, bar = 0): number {
    const into = new Uint8Array(1);
    void this.card.read(bar, register, into);
    return into[0]!;
  }
  write(register: number, value: number, bar = 0): void {
    void this.card.write(bar, register, Uint8Array.of(value));
  }
  /** All that the guest can fetch. */
  fetch(bar = 0): number[] {
    const bytes: number[] = [];
    while ((this.read(LSR, bar) & 1) !== 0) bytes.push(this.read(DATA, bar));
    return bytes;
  }
}

/** The back end of a port: notes what it is told. */
export class BackEnd {
  readonly channel: Channel<SerialToProvider, SerialToBackEnd>;
  readonly bytes: number[] = [];
  readonly log: string[] = [];
  credit = 0;
  registration: Disposable;
  /** Given anew after each reset. */
  readonly taking: number;

  constructor(rig: Rig, port = 0, taking = 1000, handler?: (message: SerialToBackEnd, self: BackEnd) => void | Promise<void>) {
    this.taking = taking;
    this.channel = rig.card.emudev.channel(serialPort(port));
    this.registration = this.channel.onMessage(handler === undefined ? (message) => { this.hear(message); } : (message) => handler(message, this));
  }

  hear(message: SerialToBackEnd): void {
    switch (message.kind) {
      case 'bytes': this.bytes.push(...message.bytes); this.log.push(`bytes ${message.bytes.length}`); break;
      case 'credit': this.credit += message.bytes; this.log.push(`credit ${message.bytes}`); break;
      case 'reset':
        this.credit = 0;
        this.log.push('reset');
        if (this.taking > 0) this.channel.send({ kind: 'credit', bytes: this.taking });
        break;
      case 'modem': this.log.push(`modem${message.lines.dtr ? ' dtr' : ''}${message.lines.rts ? ' rts' : ''}`); break;
      case 'settings': this.log.push(`settings ${message.settings.baud} ${message.settings.dataBits}`); break;
      case 'break': this.log.push(`break ${message.on}`); break;
      case 'consumer': this.log.push(`consumer ${message.present}`); break;
    }
  }

  send(...bytes: number[]): void {
    this.credit -= bytes.length;
    this.channel.send({ kind: 'bytes', bytes: Uint8Array.from(bytes) });
  }
}
