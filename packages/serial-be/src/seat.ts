import { EmudevError, type BackEndHooks, type Emudev } from '@emudev/emudev';
import { SERIAL_CONTRACT } from '@emudev/serial-emu/contract';

/** What the back end of one port hears of its card. */
export interface PortHooks {
  start(): void;
  stop(): void;
}

/** A card has one back end, and each of its ports one of ours: they share the seat. */
class Seat implements BackEndHooks {
  readonly ports = new Map<number, PortHooks>();
  readonly attachment: AsyncDisposable;
  started = false;

  constructor(emudev: Emudev) {
    this.attachment = emudev.attach(this, SERIAL_CONTRACT);
  }

  start(): void {
    this.started = true;
    for (const port of this.ports.values()) port.start();
  }

  stop(): void {
    this.started = false;
    for (const port of this.ports.values()) port.stop();
  }

  // A serial card touches no memory, and what it moves the card itself holds back while it is locked.
  lock(): Promise<void> {
    return Promise.resolve();
  }
  unlock(): void {}
}

const seats = new WeakMap<Emudev, Seat>();

/** Attaches a port's back end. @throws EmudevError (EMUDEV_BAD_ARG: no serial card, EMUDEV_EXISTS: another back end has it, or this port) */
export function takeSeat(emudev: Emudev, port: number, hooks: PortHooks): AsyncDisposable {
  const seat = seats.get(emudev) ?? new Seat(emudev);
  if (seat.ports.has(port)) throw new EmudevError('EMUDEV_EXISTS', `port ${port} of ${emudev.info.name} has a back end already`);
  seats.set(emudev, seat);
  seat.ports.set(port, hooks);
  if (seat.started) hooks.start();
  return {
    async [Symbol.asyncDispose]() {
      seat.ports.delete(port);
      if (seat.ports.size > 0 || seats.get(emudev) !== seat) return;
      seats.delete(emudev);
      await seat.attachment[Symbol.asyncDispose]();
    },
  };
}
