import { emulatedVdev, integerArg, type EmulatedPciVdev, type VdevDriver } from '@emudev/emudev';
import { EduDevice } from './device.ts';

/** Arguments of `emu_edu`. */
export interface EduArgs {
  readonly dma_bits: number;
}

/** `--vdev 'emu_edu0,path=/run/edu.sock'` */
export const driver: VdevDriver<EduArgs, EmulatedPciVdev<EduDevice>> = {
  name: 'emu_edu',
  class: 'emudev',
  summary: "QEMU's educational device (1234:11e8), to be served to a virtual machine",
  args: {
    dma_bits: integerArg({ help: 'bits of a guest address that its DMA engine drives', min: 12, max: 64, default: 28 }),
  },
  probe: (name, args, context) => Promise.resolve(emulatedVdev(name, context, (registry) => new EduDevice(name, registry, { dmaBits: args.dma_bits }))),
};
