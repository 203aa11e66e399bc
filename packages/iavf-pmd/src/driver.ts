import { EmudevError, integerArg, onOffArg, parseArgs, pathArg, type ArgSchema, type ArgSpec, type VdevDriver } from '@emudev/emudev';
import { formatAddress, parseAddress, type PciAddress, type PciDriver } from '@emudev/bus-pci';
import { BufferPool } from './buffer-pool.ts';
import { deviceAt } from './device-at.ts';
import {
  DEFAULT_MTU, DEFAULT_RING_LENGTH, FCS_BYTES, FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES, MAX_QUEUE_PAIRS, MAX_RING_LENGTH, MIN_MTU, MIN_RING_LENGTH, RING_LENGTH_MULTIPLE,
} from './limits.ts';
import { IavfPort, type IavfPortOptions } from './port.ts';
import { ADAPTIVE_VF, INTEL } from './registers.ts';
import { BusTransport } from './transport.ts';

/** How the card is used, whichever way it was found; `mtu` in bytes, `rxd` and `txd` the descriptors of a ring, `pool` the name of a `BufferPool` of 16 queue pairs that it shares. */
export interface IavfPortArgs {
  readonly queues: number;
  readonly rxd: number;
  readonly txd: number;
  readonly mtu: number;
  readonly promisc: boolean;
  readonly vlan_strip: boolean;
  readonly short_rxd: boolean;
  readonly pool?: string;
}

/** Arguments of `net_iavf`, as its `driver` describes them: `path` is a vfio-user socket, `addr` any address of the PCI bus, and one of the two is given. */
export interface IavfArgs extends IavfPortArgs {
  readonly path?: string;
  readonly addr?: PciAddress;
}

function ringArg(kind: string): ArgSpec<number> {
  const spec = integerArg({ help: `descriptors of each ${kind} ring, a multiple of ${RING_LENGTH_MULTIPLE}; short ones for many ports`, min: MIN_RING_LENGTH, max: MAX_RING_LENGTH, default: DEFAULT_RING_LENGTH });
  return {
    ...spec,
    parse: (text) => {
      const length = spec.parse(text);
      if (length % RING_LENGTH_MULTIPLE !== 0) throw new Error(`must be a multiple of ${RING_LENGTH_MULTIPLE}`);
      return length;
    },
  };
}

const portArgs: ArgSchema<IavfPortArgs> = {
  queues: integerArg({ help: 'queue pairs to use at most', min: 1, max: MAX_QUEUE_PAIRS, default: 1 }),
  rxd: ringArg('receive'),
  txd: ringArg('transmit'),
  mtu: integerArg({ help: 'longest IP packet', min: MIN_MTU, max: MAX_FRAME_BYTES - FRAME_OVERHEAD_BYTES - FCS_BYTES, default: DEFAULT_MTU }),
  promisc: onOffArg({ help: 'receive what is not addressed to the port, too', default: false }),
  vlan_strip: onOffArg({ help: 'let the device take VLAN tags out of received frames', default: false }),
  short_rxd: onOffArg({ help: 'receive descriptors of 16 bytes where the device has them', default: true }),
  pool: { help: 'ports of one pool pass frames on without a copy; their devices can read and write the frames of all', placeholder: 'NAME', parse: poolName },
};
const addressArg: ArgSpec<PciAddress> = { help: 'PCI address of the device, UUID, or vfio-user:PATH (or path)', placeholder: 'ADDRESS', parse: parseAddress };
const optionsOf = ({ queues, rxd, txd, mtu, promisc, vlan_strip, short_rxd }: IavfPortArgs): IavfPortOptions => ({ queues, rxDescriptors: rxd, txDescriptors: txd, mtu, promiscuous: promisc, vlanStrip: vlan_strip, shortRxDescriptors: short_rxd });

/** By the name that arguments give them; each as long as a port has it. */
const pools = new Map<string, BufferPool>();

function poolName(text: string): string {
  if (!/^[\w.-]{1,64}$/.test(text)) throw new EmudevError('EMUDEV_BAD_ARG', `'${text}' is no name of a pool: want 1 to 64 letters, digits, '_', '-', '.'`);
  return text;
}

/** `open` with the pool of that name, which is there while a port has it or is about to. */
async function withPool(name: string | undefined, open: (pool?: BufferPool) => Promise<IavfPort>): Promise<IavfPort> {
  if (name === undefined) return open();
  let pool = pools.get(name);
  using _held = pool?.isOpen === true ? pool.hold() : (pool = BufferPool.open());
  pools.set(name, pool);
  return await open(pool);
}

/** `--vdev net_iavf0,path=SOCKET`, `--vdev net_iavf0,addr=0000:06:0d.0`. */
export const driver: VdevDriver<IavfArgs, IavfPort> = {
  name: 'net_iavf',
  class: 'port',
  summary: 'drives an iavf network card: behind a vfio-user socket, or bound to vfio-pci',
  args: { path: pathArg({ help: 'socket of the device (or addr)' }), addr: addressArg, ...portArgs },
  probe: (name, args) => withPool(args.pool, (pool) => IavfPort.open(name, deviceAt(addressOf(name, args)), { ...optionsOf(args), ...(pool === undefined ? {} : { pool }) })),
};

function addressOf(name: string, { path, addr }: IavfArgs): PciAddress {
  if (addr !== undefined && path === undefined) return addr;
  if (path !== undefined && addr === undefined) return { kind: 'vfio-user', path };
  throw new EmudevError('EMUDEV_BAD_ARG', `${name}: ${path === undefined ? "argument 'path' or 'addr' is missing: path=PATH (socket of the device)" : "give 'path' or 'addr', not both"}`);
}

/** The same for a `PciBus`: a port of each iavf function that it finds, named by its address; the arguments are those of `net_iavf` but `path` and `addr`. */
export const pciDriver: PciDriver<IavfPort> = {
  name: 'net_iavf',
  ids: [{ vendor: INTEL, device: ADAPTIVE_VF }],
  async probe(device, args) {
    const name = formatAddress(device.address);
    const parsed = parseArgs(portArgs, args, name);
    return withPool(parsed.pool, (pool) => IavfPort.open(name, () => BusTransport.of(device), { ...optionsOf(parsed), ...(pool === undefined ? {} : { pool }) }));
  },
  remove: (port) => port.close(),
};
