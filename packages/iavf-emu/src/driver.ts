import { emulatedVdev, integerArg, macArg, oneOfArg, type EmulatedPciVdev, type VdevDriver } from '@emudev/emudev';
import { IavfDevice, type DoorbellMode } from './device.ts';
import { MAX_QUEUE_PAIRS, MAX_SPEED_MBPS } from './limits.ts';

/** Arguments of `emu_iavf`: address, queue pairs (1 to 16), doorbells, speed in Mb/s. */
export interface IavfArgs {
  readonly mac?: Uint8Array;
  readonly queues: number;
  readonly doorbell: DoorbellMode;
  readonly speed: number;
}

/** What probing makes: the card for a transport to serve, and the emulated device for a back end to attach to. */
export type IavfVdev = EmulatedPciVdev;

/** Locally administered and random, as a driver makes one itself when it is given none. */
function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

/** `emu_iavf` for the vdev bus: makes the card, and registers it as an emulated device. */
export const driver: VdevDriver<IavfArgs, IavfVdev> = {
  name: 'emu_iavf',
  class: 'emudev',
  summary: 'an Intel Adaptive Virtual Function network card (8086:1889), to be served to a virtual machine',
  args: {
    mac: macArg({ help: 'address of the card; a random local one if left out' }),
    queues: integerArg({ help: 'queue pairs', min: 1, max: MAX_QUEUE_PAIRS, default: 4 }),
    doorbell: oneOfArg(['map', 'trap'], { help: 'doorbells as mapped memory that is polled, or as messages', default: 'map' }),
    speed: integerArg({ help: 'link speed the guest is told, Mb/s', min: 1, max: MAX_SPEED_MBPS, default: 25_000 }),
  },
  probe: (name, args, context) => Promise.resolve(emulatedVdev(name, context, (registry) => new IavfDevice({
    name,
    mac: args.mac ?? randomMac(),
    maxQueuePairs: args.queues,
    doorbell: args.doorbell,
    speedMbps: args.speed,
    register: (provider) => registry.allocate(name, provider),
  }))),
};
