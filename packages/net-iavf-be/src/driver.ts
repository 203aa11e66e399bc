import { EmudevError, macArg, stringArg, type VdevDriver } from '@emudev/emudev';
import { IAVF_CONTRACT } from '@emudev/iavf-emu/contract';
import { DRIVER_NAME, IavfBackEndPort } from './port.ts';

/** Arguments of `net_iavf_be`: the emulated device's name, and a MAC address (6 bytes) in the place of its own. */
export interface IavfBackEndArgs {
  readonly emu: string;
  readonly mac?: Uint8Array;
}

/** `net_iavf_be` for the vdev bus. EMUDEV_NOENT where there is no emulated device of that name, EMUDEV_BAD_ARG where it is of another family. */
export const driver: VdevDriver<IavfBackEndArgs, IavfBackEndPort> = {
  name: DRIVER_NAME,
  class: 'port',
  summary: 'the network side of an emulated iavf card: virtchnl, rings, filters, offloads',
  args: {
    emu: stringArg({ help: 'the emulated card to serve, named earlier on the command line', placeholder: 'NAME', required: true }),
    mac: macArg({ help: "the card's address; default: what the card was given" }),
  },
  async probe(name, args, context) {
    const emudev = context.findEmudev(args.emu);
    if (emudev === undefined) throw new EmudevError('EMUDEV_NOENT', `${name}: there is no emulated device '${args.emu}'; name it before this one`);
    if (emudev.info.devType !== IAVF_CONTRACT.devType) throw new EmudevError('EMUDEV_BAD_ARG', `${name}: ${args.emu} is a device of the family ${emudev.info.devType}; this is the back end of ${IAVF_CONTRACT.devType} cards`);
    return await IavfBackEndPort.open(name, emudev, args.mac);
  },
};
