/** The back end of one port: bytes between the card's channel and a far end, by credit on one side and by what is taken on the other. */
import { channel as diagnosticsChannel } from 'node:diagnostics_channel';
import { EmudevError, type Channel, type Emudev, type VdevDevice } from '@emudev/emudev';
import { ATTR_PORTS, farEndAttr, SERIAL_DEV_TYPE, serialPort, type SerialToBackEnd, type SerialToProvider } from '@emudev/serial-emu/contract';
import { ByteRing } from './byte-ring.ts';
import type { FarEnd, FarEndEvents } from './far-end.ts';
import { CREDIT_STEP, INCOMING_BYTES, MAX_WAITING_BREAKS, OUTGOING_BYTES, READ_BYTES } from './limits.ts';
import { takeSeat, type PortHooks } from './seat.ts';

/** `node:diagnostics_channel` of what happens at the far ends, as `SerialBackEndDiagnostic`. */
export const SERIAL_BACK_END_DIAGNOSTICS = 'emudev.serial_be';

/** One thing that happened at a far end. */
export interface SerialBackEndDiagnostic {
  readonly device: string;
  /** open: it is at `place` from now on; present, absent: somebody has come, has gone; refused, failed: see `message`; close: it is no more. */
  readonly event: 'open' | 'present' | 'absent' | 'refused' | 'failed' | 'close';
  readonly place: string;
  readonly message?: string;
}

const diagnostics = diagnosticsChannel(SERIAL_BACK_END_DIAGNOSTICS);

/** How a back end is made. */
export interface SerialBackEndOptions {
  readonly name: string;
  readonly emudev: Emudev;
  readonly port: number;
  /** What becomes of the guest's bytes while nobody is at the far end. */
  readonly whenAbsent: 'discard' | 'hold';
  /** 'rtscts': nothing is given to a guest whose RTS is off. */
  readonly flow: 'rtscts' | 'none';
  /** Makes the far end; what it rejects with is what `open` rejects with. */
  farEnd(events: FarEndEvents): FarEnd | Promise<FarEnd>;
}

/** Bytes since it was opened. */
export interface SerialBackEndCounters {
  readonly fromGuest: number;
  readonly toGuest: number;
  /** Bytes of the guest that nobody was there for. */
  readonly discarded: number;
  readonly breaksFromGuest: number;
}

/** The back end of one port; it works while its card is started. */
export class SerialBackEnd implements VdevDevice {
  readonly name: string;
  readonly #options: SerialBackEndOptions;
  readonly #channel: Channel<SerialToProvider, SerialToBackEnd>;
  readonly #outgoing = new ByteRing(OUTGOING_BYTES);
  readonly #incoming = new ByteRing(INCOMING_BYTES + READ_BYTES);
  /** Bytes of `#incoming` before each break that waits. */
  readonly #breaks: number[] = [];
  readonly #undo = new AsyncDisposableStack();
  #farEnd: FarEnd | undefined;
  #present = false;
  #started = false;
  /** What the card takes. */
  #credit = 0;
  /** What we have said we take, and have not got. */
  #granted = 0;
  #rts = false;
  #reading = false;
  #forwarding = false;
  #counters = { fromGuest: 0, toGuest: 0, discarded: 0, breaksFromGuest: 0 };

  /**
   * Everything is there when it resolves: the terminal, the listening socket. When it rejects nothing is left behind.
   * @throws EmudevError (EMUDEV_BAD_ARG: no serial card; EMUDEV_RANGE: no such port; EMUDEV_EXISTS: another back end has the card, or this port)
   */
  static async open(options: SerialBackEndOptions): Promise<SerialBackEnd> {
    const backEnd = new SerialBackEnd(options);
    try {
      await backEnd.#open();
    } catch (error) {
      await backEnd.#undo.disposeAsync();
      throw error;
    }
    return backEnd;
  }

  private constructor(options: SerialBackEndOptions) {
    const { name, emudev, port } = options;
    const { devType } = emudev.info;
    if (devType !== SERIAL_DEV_TYPE) throw new EmudevError('EMUDEV_BAD_ARG', `${name}: ${emudev.info.name} is no serial card but of the family ${devType}`);
    const ports = emudev.getAttr(ATTR_PORTS);
    if (port >= ports) throw new EmudevError('EMUDEV_RANGE', `${name}: ${emudev.info.name} has ${ports === 1 ? 'port 0 only' : `ports 0 to ${ports - 1}`}, no port ${port}`);
    this.name = name;
    this.#options = options;
    this.#channel = emudev.channel(serialPort(port));
  }

  /** Where the far end is: a path, an address. */
  get place(): string {
    return this.#farEnd?.place ?? '';
  }

  get ownsStdio(): boolean {
    return this.#farEnd?.ownsStdio ?? false;
  }

  /** Somebody is at the far end. */
  get present(): boolean {
    return this.#present;
  }

  /** What has passed so far: a snapshot. */
  get counters(): SerialBackEndCounters {
    return { ...this.#counters };
  }

  async close(): Promise<void> {
    this.#started = false;
    await this.#undo.disposeAsync();
  }

  async #open(): Promise<void> {
    const { emudev, port, farEnd: make } = this.#options;
    const hooks: PortHooks = {
      start: () => { this.#setStarted(true); },
      stop: () => { this.#setStarted(false); },
    };
    this.#undo.use(takeSeat(emudev, port, hooks));
    const farEnd = await make({
      present: (present) => { this.#setPresent(present); },
      data: (bytes) => { this.#fromFarEnd(bytes); },
      writable: () => { this.#flush(); },
      break: () => {
        if (this.#breaks.length < MAX_WAITING_BREAKS) this.#breaks.push(this.#incoming.length);
        this.#forward();
      },
      report: (event, message) => { this.#report(event, message); },
    });
    this.#farEnd = farEnd;
    this.#undo.defer(() => {
      farEnd.close();
      this.#report('close');
    });
    const registration = this.#channel.onMessage((message) => { this.#onMessage(message); });
    this.#undo.defer(() => { registration[Symbol.dispose](); });
    emudev.setAttr(farEndAttr(port), farEnd.place);
    this.#report('open');
    this.#tellModem();
    this.#setReading();
  }

  #onMessage(message: SerialToBackEnd): void {
    switch (message.kind) {
      case 'bytes':
        this.#granted -= message.bytes.length;
        this.#counters.fromGuest += message.bytes.length;
        this.#outgoing.push(message.bytes);
        this.#flush();
        return;
      case 'credit':
        this.#credit += message.bytes;
        this.#forward();
        return;
      case 'reset':
        this.#credit = this.#granted = 0;
        this.#grant();
        return;
      case 'modem':
        this.#rts = message.lines.rts;
        this.#forward();
        return;
      case 'break':
        if (message.on) this.#counters.breaksFromGuest++;
        return;
      case 'settings':
      case 'consumer':
        // A line of ours has no speed, and stays when the guest goes.
    }
  }

  /** The guest's bytes to the far end. */
  #flush(): void {
    const outgoing = this.#outgoing;
    while (this.#started && outgoing.length > 0) {
      const bytes = outgoing.peek(outgoing.length);
      if (!this.#present && this.#options.whenAbsent === 'hold') break;
      const taken = this.#present ? this.#farEnd!.write(bytes) : bytes.length;
      if (!this.#present) this.#counters.discarded += taken;
      outgoing.drop(taken);
      if (taken < bytes.length) break;
    }
    this.#grant();
  }

  #grant(): void {
    const free = this.#outgoing.free - this.#granted;
    if (free < CREDIT_STEP) return;
    this.#granted += free;
    this.#channel.send({ kind: 'credit', bytes: free });
  }

  #fromFarEnd(bytes: Uint8Array): void {
    this.#incoming.push(bytes);
    this.#setReading();
    this.#forward();
  }

  /** The far end's bytes to the guest. The card's answer to bytes is credit, which comes back here: only the outermost call goes on. */
  #forward(): void {
    if (this.#forwarding) return;
    this.#forwarding = true;
    const incoming = this.#incoming;
    const breaks = this.#breaks;
    while (this.#started && this.#credit > 0 && (this.#rts || this.#options.flow === 'none')) {
      if (breaks[0] === 0) {
        breaks.shift();
        this.#credit--;
        this.#channel.send({ kind: 'break' });
        continue;
      }
      const bytes = incoming.peek(Math.min(this.#credit, breaks[0] ?? Number.POSITIVE_INFINITY));
      const count = bytes.length;
      if (count === 0) break;
      incoming.drop(count);
      for (let i = 0; i < breaks.length; i++) breaks[i]! -= count;
      this.#credit -= count;
      this.#counters.toGuest += count;
      this.#channel.send({ kind: 'bytes', bytes });
    }
    this.#forwarding = false;
    this.#setReading();
  }

  #setReading(): void {
    const reading = this.#started && this.#incoming.length < INCOMING_BYTES;
    if (this.#farEnd === undefined || reading === this.#reading) return;
    this.#reading = reading;
    this.#farEnd.setReading(reading);
  }

  #setStarted(started: boolean): void {
    this.#started = started;
    this.#setReading();
    this.#flush();
    this.#forward();
  }

  #setPresent(present: boolean): void {
    this.#present = present;
    this.#report(present ? 'present' : 'absent');
    this.#tellModem();
    this.#flush();
  }

  /** As a null modem has it: the other side's DTR is our DSR and DCD. It can receive while it is there, or while nobody would miss it. */
  #tellModem(): void {
    const there = this.#present;
    if (this.#farEnd !== undefined) this.#channel.send({ kind: 'modem', lines: { cts: there || this.#options.whenAbsent === 'discard', dsr: there, ri: false, dcd: there } });
  }

  #report(event: SerialBackEndDiagnostic['event'], message?: string): void {
    if (diagnostics.hasSubscribers) diagnostics.publish({ device: this.name, event, place: this.place, ...(message === undefined ? {} : { message }) } satisfies SerialBackEndDiagnostic);
  }
}
