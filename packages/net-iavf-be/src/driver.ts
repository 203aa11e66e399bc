import { EmudevError, macArg, stringArg, type VdevDriver } from '@emudev/emudev';
import { DRIVER_NAME, IavfBackEndPort } from './port.ts';

export interface IavfBackEndArgs {
  readonly emu: string;
  readonly mac?: Uint8Array;
}

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
    return await IavfBackEndPort.open(name, emudev, args.mac);
  },
};
