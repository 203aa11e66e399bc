import { integerArg, onOffArg, pathArg, type VdevDriver } from '@emudev/emudev';
import { DEFAULT_MTU, FCS_BYTES, FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES, MAX_QUEUE_PAIRS, MIN_MTU } from './limits.ts';
import { IavfPort } from './port.ts';
import { VfioUserTransport } from './vfio-user-transport.ts';

/** Arguments of `net_iavf`, as its `driver` describes them; `path` is the vfio-user socket, `mtu` in bytes. */
export interface IavfArgs {
  readonly path: string;
  readonly queues: number;
  readonly mtu: number;
  readonly promisc: boolean;
  readonly vlan_strip: boolean;
}

/** `--vdev net_iavf0,path=SOCKET`. */
export const driver: VdevDriver<IavfArgs, IavfPort> = {
  name: 'net_iavf',
  class: 'port',
  summary: 'drives an iavf network card behind a vfio-user socket',
  args: {
    path: pathArg({ help: 'socket of the device', required: true }),
    queues: integerArg({ help: 'queue pairs to use at most', min: 1, max: MAX_QUEUE_PAIRS, default: 1 }),
    mtu: integerArg({ help: 'longest IP packet', min: MIN_MTU, max: MAX_FRAME_BYTES - FRAME_OVERHEAD_BYTES - FCS_BYTES, default: DEFAULT_MTU }),
    promisc: onOffArg({ help: 'receive what is not addressed to the port, too', default: false }),
    vlan_strip: onOffArg({ help: 'let the device take VLAN tags out of received frames', default: false }),
  },
  probe: (name, args) =>
    IavfPort.open(name, (window, sys) => VfioUserTransport.connect(args.path, window, sys), {
      queues: args.queues,
      mtu: args.mtu,
      promiscuous: args.promisc,
      vlanStrip: args.vlan_strip,
    }),
};
