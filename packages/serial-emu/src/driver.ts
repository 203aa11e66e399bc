import { emulatedVdev, integerArg, type EmulatedPciVdev, type VdevDriver } from '@emudev/emudev';
import { MAX_PORTS } from './contract.ts';
import { SerialCard } from './device.ts';

/** Arguments of `emu_serial`. */
export interface SerialArgs {
  readonly ports: number;
}

/** `--vdev 'emu_serial0,path=/run/serial0.sock,ports=2'` */
export const driver: VdevDriver<SerialArgs, EmulatedPciVdev<SerialCard>> = {
  name: 'emu_serial',
  class: 'emudev',
  summary: 'a PCI serial card (4348:3253) with one or two 16550A ports, to be served to a virtual machine',
  args: {
    ports: integerArg({ help: 'serial ports; port n is in BAR n', min: 1, max: MAX_PORTS, default: 1 }),
  },
  probe: (name, args, context) => Promise.resolve().then(() => emulatedVdev(name, context, (registry) => new SerialCard({ name, ports: args.ports }, registry))),
};
