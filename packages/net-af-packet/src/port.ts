import { channel } from 'node:diagnostics_channel';
import { EmudevError, integerArg, oneOfArg, onOffArg, sizeArg, stringArg, type VdevDriver } from '@emudev/emudev';
import type { WindowMapping } from '@emudev/dma';
import { FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, RXQ_MISSED, SoftwarePort, addCounter, type DatapathSpec, type PortStats } from '@emudev/ethdev';
import { FANOUT_MODES, LinuxError, linux, type PacketSocketOptions, type Sys } from '@emudev/linux';
import type { AfPacketInit } from './datapath/init.ts';
import { RX_STAGE_BYTES } from './datapath/rx-ring.ts';
import { TX_AREA_BYTES } from './datapath/tx-batch.ts';
import {
  DEFAULT_BLOCK_BYTES, DEFAULT_FRAME_COUNT, LINK_POLL_MS, MAX_BLOCK_BYTES, MAX_FRAME_COUNT, MAX_FRAME_SLOT_BYTES, MAX_MTU, MAX_QUEUE_PAIRS, MAX_RING_BYTES,
  MIN_FRAME_SLOT_BYTES, MIN_MTU, SLOT_OVERHEAD_BYTES, SOCKET_BUFFER_BYTES,
} from './limits.ts';

const FANOUT_NAMES = ['hash', 'lb', 'cpu', 'rollover', 'rnd', 'qm'] as const;
const PAGE_BYTES = 4096;
/** TPACKET_ALIGNMENT. */
const SLOT_ALIGNMENT = 16;

/** Arguments of `net_af_packet`, named as DPDK names them; sizes in bytes. */
export interface AfPacketArgs {
  /** Name of the interface; it has to exist. */
  readonly iface: string;
  readonly qpairs?: number;
  /** A ring's blocks and slots; by default a slot holds what the interface's MTU allows. */
  readonly blocksz?: number;
  readonly framesz?: number;
  readonly framecnt?: number;
  /** How frames received are spread over the queues. */
  readonly fanout_mode?: (typeof FANOUT_NAMES)[number];
  readonly qdisc_bypass?: boolean;
  /** Frames for all addresses are received, as a guest behind the port needs it. */
  readonly promisc?: boolean;
  /** Set on the interface; left as it is by default. */
  readonly mtu?: number;
}

const SPEED_MBPS = 10_000;
const ETHERNET_AND_TAG_BYTES = 18;
/** Published when the kernel has taken the interface away: `{ port, iface }`. */
export const AF_PACKET_GONE_CHANNEL = 'emudev:net-af-packet:gone';

type Ring = PacketSocketOptions['ring'];

/** What a ring is made of; EmudevError EMUDEV_BAD_ARG where the numbers do not go together. */
function planRing(args: AfPacketArgs, mtu: number): Ring {
  const wanted = mtu + ETHERNET_AND_TAG_BYTES + SLOT_OVERHEAD_BYTES;
  const frameBytes = args.framesz ?? Math.min(MAX_FRAME_SLOT_BYTES, 2 ** Math.ceil(Math.log2(Math.max(wanted, MIN_FRAME_SLOT_BYTES))));
  const blockBytes = args.blocksz ?? Math.max(DEFAULT_BLOCK_BYTES, Math.ceil(frameBytes / PAGE_BYTES) * PAGE_BYTES);
  const frames = args.framecnt ?? DEFAULT_FRAME_COUNT;
  const perBlock = Math.floor(blockBytes / frameBytes);
  const refuse = (what: string): never => {
    throw new EmudevError('EMUDEV_BAD_ARG', `net_af_packet: ${what}`);
  };
  if (frameBytes % SLOT_ALIGNMENT !== 0) refuse(`framesz=${frameBytes} must be a multiple of ${SLOT_ALIGNMENT}`);
  if (blockBytes % PAGE_BYTES !== 0 || perBlock === 0) refuse(`blocksz=${blockBytes} must be a multiple of ${PAGE_BYTES}, and not less than framesz=${frameBytes}`);
  const blocks = Math.ceil(frames / perBlock);
  if (blocks * blockBytes > MAX_RING_BYTES) refuse(`${frames} frames of ${frameBytes} bytes are more than ${MAX_RING_BYTES} bytes`);
  return { blockBytes, blocks, frameBytes, frames: blocks * perBlock };
}

/** All sockets of the port, or none. */
function openSockets(sys: Sys, args: AfPacketArgs, ring: Ring): number[] {
  const queues = args.qpairs ?? 1;
  const fds: number[] = [];
  const mode = FANOUT_MODES[args.fanout_mode ?? 'hash'];
  let group: number | undefined;
  try {
    for (let queue = 0; queue < queues; queue++) {
      const fanout = queues === 1 ? {} : { fanout: group === undefined ? { mode } : { mode, group } };
      const fd = sys.packetOpen(args.iface, { vnetHeader: true, qdiscBypass: args.qdisc_bypass ?? false, bufferBytes: SOCKET_BUFFER_BYTES, ring, ...fanout });
      fds.push(fd);
      if (queues > 1) group ??= sys.packetFanoutGroup(fd);
    }
    // One membership counts for the interface, and ends with its socket.
    if (args.promisc ?? true) sys.packetPromiscuous(fds[0]!, args.iface, true);
    return fds;
  } catch (error) {
    for (const fd of fds) sys.close(fd);
    throw error;
  }
}

/** The port: its link is the interface's, up and running. Whether the interface is up is not the port's to say. */
export class AfPacketPort extends SoftwarePort {
  readonly iface: string;
  readonly #sys: Sys;
  readonly #index: number;
  readonly #fds: number[];
  readonly #rings: WindowMapping[] = [];
  readonly #init: Omit<AfPacketInit, 'peerTxCapabilities'>;
  #promiscuous: boolean;
  #timer: NodeJS.Timeout | undefined;

  /** Opens the sockets; LinuxError (EPERM: CAP_NET_RAW; ENODEV: no such interface), EmudevError EMUDEV_BAD_ARG for sizes that do not go together. */
  static open(name: string, args: AfPacketArgs, sys: Sys = linux): AfPacketPort {
    if (args.mtu !== undefined) sys.ifSetMtu(args.iface, args.mtu);
    const ring = planRing(args, sys.ifGetMtu(args.iface));
    const fds = openSockets(sys, args, ring);
    try {
      return new AfPacketPort(name, args, sys, fds, ring);
    } catch (error) {
      for (const fd of fds) sys.close(fd);
      throw error;
    }
  }

  private constructor(name: string, args: AfPacketArgs, sys: Sys, fds: number[], ring: Ring) {
    // Not the MTU of now: an administrator may raise it on the interface at any time.
    const maxFrameBytes = MAX_MTU + ETHERNET_AND_TAG_BYTES;
    super(
      {
        name, driver: driver.name, maxRxQueues: fds.length, maxTxQueues: fds.length, txCapabilities: FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_TX_TSO, maxFrameBytes,
        mac: sys.ifGetMac(args.iface),
      },
      SPEED_MBPS,
    );
    this.iface = args.iface;
    this.#sys = sys;
    this.#fds = fds;
    this.#promiscuous = args.promisc ?? true;
    try {
      this.#index = sys.ifIndex(args.iface);
      const goneCell = this.own(this.window.alloc(64)) >>> 2;
      const rxStages = fds.map(() => this.own(this.window.alloc(RX_STAGE_BYTES)));
      const txAreas = fds.map(() => this.own(this.window.alloc(TX_AREA_BYTES)));
      for (const fd of fds) this.#rings.push(this.window.map({ fd, fdOffset: 0, lengthBytes: ring.blocks * ring.blockBytes, write: true }));
      this.#init = {
        fds, rings: this.#rings.map(({ offset }) => offset), slots: ring.frames, slotBytes: ring.frameBytes, slotsPerBlock: Math.floor(ring.blockBytes / ring.frameBytes),
        blockBytes: ring.blockBytes, maxFrameBytes, rxStages, txAreas, rxCounters: this.counters.rxBlock(0), txCounters: this.counters.txBlock(0), goneCell,
      };
    } catch (error) {
      for (const mapping of this.#rings.splice(0)) mapping[Symbol.dispose]();
      this.release();
      throw error;
    }
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    const init: AfPacketInit = { ...this.#init, peerTxCapabilities: this.config?.peerTxCapabilities ?? 0 };
    return { module: new URL('./datapath.js', import.meta.url).href, init, wakeFds: this.#fds };
  }

  /** Counts with what the kernel dropped since. */
  override stats(): PortStats {
    this.#countDrops();
    return super.stats();
  }

  /** As `stats`, by name. */
  override xstats(): ReadonlyMap<string, bigint> {
    this.#countDrops();
    return super.xstats();
  }

  /** Counts from zero; what the kernel dropped until now belongs to what was before. */
  override resetStats(): void {
    this.#countDrops();
    super.resetStats();
  }

  /** Whether frames for other addresses are received, too. */
  setPromiscuous(on: boolean): Promise<void> {
    return Promise.resolve().then(() => {
      if (on === this.#promiscuous) return;
      this.#sys.packetPromiscuous(this.#fds[0]!, this.iface, on);
      this.#promiscuous = on;
    });
  }

  protected override onStart(): void {
    // No netlink socket for this: two flags, twice a second.
    this.#timer = setInterval(() => {
      // An interface that went down leaves an error that would wake its lcore for ever.
      for (const fd of this.#fds) this.#sys.socketError(fd);
      this.#countDrops();
      this.setLink(this.#linkNow());
    }, LINK_POLL_MS);
    this.#timer.unref();
  }

  protected override onStop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  protected override onClose(): void {
    this.#countDrops();
    for (const mapping of this.#rings) mapping[Symbol.dispose]();
    for (const fd of this.#fds.splice(0)) this.#sys.close(fd);
  }

  protected override linkWhenStarted(): boolean {
    return this.#linkNow();
  }

  /** This thread is the only writer of the cells of frames missed: data paths see none of them. */
  #countDrops(): void {
    for (const [queue, fd] of this.#fds.entries()) {
      const { drops } = this.#sys.packetStatistics(fd);
      if (drops !== 0) addCounter(this.window.u32, (this.counters.rxBlock(queue) + RXQ_MISSED) >>> 2, drops);
    }
  }

  #linkNow(): boolean {
    const gone = this.#init.goneCell;
    try {
      // Another interface may have got the name.
      if (Atomics.load(this.window.i32, gone) === 0 && this.#sys.ifIndex(this.iface) === this.#index) {
        const { up, running } = this.#sys.ifFlags(this.iface);
        return up && running;
      }
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
    }
    Atomics.store(this.window.i32, gone, 1);
    clearInterval(this.#timer);
    channel(AF_PACKET_GONE_CHANNEL).publish({ port: this.name, iface: this.iface });
    return false;
  }
}

/** `net_af_packet` for the vdev bus. LinuxError EPERM without CAP_NET_RAW. */
export const driver: VdevDriver<AfPacketArgs, AfPacketPort> = {
  name: 'net_af_packet',
  class: 'port',
  summary: 'a network interface of the host that exists, by packet sockets (needs CAP_NET_RAW)',
  args: {
    iface: stringArg({ help: 'name of the interface', placeholder: 'NAME', required: true }),
    qpairs: integerArg({ help: 'queue pairs, a socket each', min: 1, max: MAX_QUEUE_PAIRS, default: 1 }),
    blocksz: sizeArg({ help: "bytes of a ring's blocks, a multiple of 4096", min: PAGE_BYTES, max: MAX_BLOCK_BYTES }),
    framesz: sizeArg({ help: "bytes of a ring's slots, a multiple of 16 (default: what the MTU needs)", min: MIN_FRAME_SLOT_BYTES, max: MAX_FRAME_SLOT_BYTES }),
    framecnt: integerArg({ help: 'slots of a ring', min: 1, max: MAX_FRAME_COUNT, default: DEFAULT_FRAME_COUNT }),
    fanout_mode: oneOfArg(FANOUT_NAMES, { help: 'how frames received are spread over the queues', default: 'hash' }),
    qdisc_bypass: onOffArg({ help: "send past the interface's queueing discipline", default: false }),
    promisc: onOffArg({ help: 'receive frames for all addresses', default: true }),
    mtu: integerArg({ help: "the interface's MTU (default: left as it is)", min: MIN_MTU, max: MAX_MTU }),
  },
  probe: (name, args) => Promise.resolve().then(() => AfPacketPort.open(name, args)),
};
