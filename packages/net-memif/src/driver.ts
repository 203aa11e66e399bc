import { integerArg, macArg, oneOfArg, stringArg, type ArgSpec, type VdevDriver } from '@emudev/emudev';
import { DEFAULT_BUFFER_BYTES, DEFAULT_LOG2_RING_SIZE, MAX_BUFFER_BYTES, MAX_LOG2_RING_SIZE, MAX_QUEUES, MIN_BUFFER_BYTES } from './limits.ts';
import { DRIVER_NAME, MemifPort } from './port.ts';

/** Arguments of `net_memif`, named as DPDK's, as its `driver` describes them. */
export interface MemifArgs {
  readonly id: number;
  readonly role: 'server' | 'client' | 'master' | 'slave';
  readonly bsize: number;
  readonly rsize: number;
  readonly socket: string;
  readonly 'socket-abstract': 'yes' | 'no';
  readonly mac?: Uint8Array;
  readonly secret?: string;
  readonly queues: number;
  readonly 'zero-copy': 'no';
}

/** DPDK's default. */
const DEFAULT_SOCKET = '/run/memif.sock';

const noZeroCopy: ArgSpec<'no'> = {
  help: 'no: frames are copied between the shared memory and ours',
  placeholder: 'no',
  default: 'no',
  parse(text) {
    if (text !== 'no') throw new Error('must be no: a peer could change a frame that had been checked already, so frames are copied');
    return text;
  },
};

/** `net_memif` for the vdev bus. */
export const driver: VdevDriver<MemifArgs, MemifPort> = {
  name: DRIVER_NAME,
  class: 'port',
  summary: 'shared memory to a DPDK, VPP or OVS-DPDK process on this host (memif)',
  args: {
    id: integerArg({ help: 'which interface of the socket', min: 0, max: 0xffffffff, default: 0 }),
    role: oneOfArg(['server', 'client', 'master', 'slave'], { help: 'server listens, client connects (master and slave: the same, formerly)', default: 'client' }),
    bsize: integerArg({ help: 'client: bytes of a packet buffer', min: MIN_BUFFER_BYTES, max: MAX_BUFFER_BYTES, default: DEFAULT_BUFFER_BYTES }),
    rsize: integerArg({ help: 'client: log2 of the ring size', min: 1, max: MAX_LOG2_RING_SIZE, default: DEFAULT_LOG2_RING_SIZE }),
    socket: stringArg({ help: 'path or abstract name of the socket', placeholder: 'PATH', default: DEFAULT_SOCKET }),
    'socket-abstract': oneOfArg(['yes', 'no'], { help: 'whether the socket is an abstract name, no file', default: 'yes' }),
    mac: macArg({ help: 'MAC address of the port (default: a random one)' }),
    secret: stringArg({ help: 'both ends must have the same', placeholder: 'TEXT' }),
    queues: integerArg({ help: 'Rx and Tx queues', min: 1, max: MAX_QUEUES, default: 1 }),
    'zero-copy': noZeroCopy,
  },
  probe: (name, args) =>
    Promise.resolve().then(() => MemifPort.open(name, {
      role: args.role === 'server' || args.role === 'master' ? 'server' : 'client',
      id: args.id,
      socket: args.socket,
      socketAbstract: args['socket-abstract'] === 'yes',
      bufferBytes: args.bsize,
      log2RingSize: args.rsize,
      queues: args.queues,
      ...(args.mac === undefined ? {} : { mac: args.mac }),
      ...(args.secret === undefined ? {} : { secret: args.secret }),
    })),
};
