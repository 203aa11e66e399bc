/**
 * The TAP port: frames to and from a network interface of the kernel. With a virtio-net header (the default) the kernel finishes
 * checksums and segments TCP for us.
 *
 * @packageDocumentation
 */
import { channel } from 'node:diagnostics_channel';
import { integerArg, macArg, onOffArg, stringArg, type VdevDriver } from '@emudev/emudev';
import { FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, MAX_VIRTIO_FRAME_BYTES, SoftwarePort, VIRTIO_HEADER_BYTES, type DatapathSpec } from '@emudev/ethdev';
import { ERRNO, LinuxError, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6, linux, type Sys } from '@emudev/linux';
import { TX_STAGE_BYTES, type TapInit } from './datapath.ts';
import { DEFAULT_MTU, LINK_POLL_MS, MAX_MTU, MAX_QUEUES, MIN_MTU } from './limits.ts';

/** Arguments of `net_tap`, as its `driver` describes them; `mtu` in bytes, `vnet`: with a virtio-net header. */
export interface TapArgs {
  /** Name of the interface; `%d` in it becomes the next free number. */
  readonly iface?: string;
  /** MAC of the interface, as the kernel uses it. */
  readonly mac?: Uint8Array;
  readonly mtu?: number;
  readonly queues?: number;
  readonly vnet?: boolean;
}

/** A frame behind its header, one byte to notice a longer one by, and what a copy may write behind its end. */
const RX_STAGE_BYTES: number = VIRTIO_HEADER_BYTES + MAX_VIRTIO_FRAME_BYTES + 1 + 8;
const TAP_SPEED_MBPS = 10_000;
const ETHERNET_AND_TAG_BYTES = 18;
/** Published when the kernel has taken the interface away: `{ port, iface }`. */
export const TAP_GONE_CHANNEL = 'emudev:net-tap:gone';

interface OpenTap {
  readonly iface: string;
  readonly fds: readonly number[];
}

/** What frames read may leave to us, most first: the first row needs Linux 6.2. */
const OFFLOADS: readonly number[] = [TUN_F_USO4 | TUN_F_USO6, 0].map((uso) => uso | TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);

/** One more queue, with whatever offloads the kernel knows. */
function openQueue(sys: Sys, iface: string, vnet: boolean, multiQueue: boolean): { fd: number; name: string } {
  if (!vnet) return sys.tapOpen(iface, { vnetHeaderBytes: 0, multiQueue, offloads: 0 });
  try {
    return sys.tapOpen(iface, { vnetHeaderBytes: VIRTIO_HEADER_BYTES, multiQueue, offloads: OFFLOADS[0]! });
  } catch (error) {
    // Also what an interface of another mode says: then the second attempt says it again.
    if (!(error instanceof LinuxError) || error.errno !== ERRNO.EINVAL) throw error;
    return sys.tapOpen(iface, { vnetHeaderBytes: VIRTIO_HEADER_BYTES, multiQueue, offloads: OFFLOADS[1]! });
  }
}

/** All queues of the interface, or none; LinuxError says what was missing (EPERM: CAP_NET_ADMIN). */
function open(sys: Sys, args: TapArgs): OpenTap {
  const queues = args.queues ?? 1;
  const fds: number[] = [];
  let iface = args.iface ?? 'dtap%d';
  try {
    for (let queue = 0; queue < queues; queue++) {
      const tap = openQueue(sys, iface, args.vnet ?? true, queues > 1);
      fds.push(tap.fd);
      iface = tap.name;
    }
    sys.ifSetMtu(iface, args.mtu ?? DEFAULT_MTU);
    if (args.mac !== undefined) sys.ifSetMac(iface, args.mac);
    return { iface, fds };
  } catch (error) {
    for (const fd of fds) sys.close(fd);
    throw error;
  }
}

/** The port: its link is the interface's, up and running. */
export class TapPort extends SoftwarePort {
  /** The interface's real name. */
  readonly iface: string;
  readonly #sys: Sys;
  readonly #fds: readonly number[];
  readonly #init: Omit<TapInit, 'peerTxCapabilities'>;
  #timer: NodeJS.Timeout | undefined;

  /** Opens the interface; throws LinuxError. */
  static open(name: string, args: TapArgs = {}, sys: Sys = linux): TapPort {
    const tap = open(sys, args);
    try {
      return new TapPort(name, args, sys, tap);
    } catch (error) {
      for (const fd of tap.fds) sys.close(fd);
      throw error;
    }
  }

  private constructor(name: string, args: TapArgs, sys: Sys, tap: OpenTap) {
    const queues = tap.fds.length;
    const vnet = args.vnet ?? true;
    // Not the MTU of now: an administrator may raise it on the interface at any time.
    const maxFrameBytes = MAX_MTU + ETHERNET_AND_TAG_BYTES;
    super(
      {
        name,
        driver: driver.name,
        maxRxQueues: queues,
        maxTxQueues: queues,
        txCapabilities: vnet ? FRAME_TX_IPV4_CSUM | FRAME_TX_L4_CSUM | FRAME_TX_TSO : 0,
        maxFrameBytes,
        mac: sys.ifGetMac(tap.iface),
      },
      TAP_SPEED_MBPS,
    );
    this.iface = tap.iface;
    this.#sys = sys;
    this.#fds = tap.fds;
    let cell: number;
    let rxStages: number[];
    let txStages: number[];
    try {
      cell = this.own(this.window.alloc(64));
      rxStages = tap.fds.map(() => this.own(this.window.alloc(RX_STAGE_BYTES)));
      txStages = tap.fds.map(() => this.own(this.window.alloc(TX_STAGE_BYTES)));
    } catch (error) {
      this.release();
      throw error;
    }
    this.#init = {
      fds: tap.fds,
      headerBytes: vnet ? VIRTIO_HEADER_BYTES : 0,
      maxFrameBytes,
      rxStages,
      txStages,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
      goneCell: cell >>> 2,
    };
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    const init: TapInit = { ...this.#init, peerTxCapabilities: this.config?.peerTxCapabilities ?? 0 };
    return { module: new URL('./datapath.js', import.meta.url).href, init, wakeFds: this.#fds };
  }

  /** Sets the interface up. */
  protected override onStart(): void {
    this.#sys.ifUp(this.iface, true);
    // No netlink socket for this: two flags, twice a second.
    this.#timer = setInterval(() => {
      this.setLink(this.#linkNow());
    }, LINK_POLL_MS);
    this.#timer.unref();
  }

  /** Sets the interface down. */
  protected override onStop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    try {
      this.#sys.ifUp(this.iface, false);
    } catch {
      // The interface is gone already: it is as down as can be.
    }
  }

  /** Closes the queues; the kernel removes the interface with the last one. */
  protected override onClose(): void {
    for (const fd of this.#fds) this.#sys.close(fd);
  }

  protected override linkWhenStarted(): boolean {
    return this.#linkNow();
  }

  #linkNow(): boolean {
    try {
      const { up, running } = this.#sys.ifFlags(this.iface);
      return up && running && Atomics.load(this.window.i32, this.#init.goneCell) === 0;
    } catch {
      // ENODEV: deleted, or moved to another network namespace; in the second case frames still flow.
      if (Atomics.load(this.window.i32, this.#init.goneCell) !== 0) {
        clearInterval(this.#timer);
        channel(TAP_GONE_CHANNEL).publish({ port: this.name, iface: this.iface });
      }
      return false;
    }
  }
}

/** `net_tap` for the vdev bus. LinuxError EPERM without CAP_NET_ADMIN. */
export const driver: VdevDriver<TapArgs, TapPort> = {
  name: 'net_tap',
  class: 'port',
  summary: "a TAP interface of the host's kernel (needs CAP_NET_ADMIN)",
  args: {
    iface: stringArg({ help: 'name of the interface; %d becomes a free number', placeholder: 'NAME', default: 'dtap%d' }),
    mac: macArg({ help: "the interface's MAC address (default: the kernel's choice)" }),
    mtu: integerArg({ help: "the interface's MTU", min: MIN_MTU, max: MAX_MTU, default: DEFAULT_MTU }),
    queues: integerArg({ help: 'queues (more than one: IFF_MULTI_QUEUE)', min: 1, max: MAX_QUEUES, default: 1 }),
    vnet: onOffArg({ help: 'virtio-net header: the kernel finishes checksums and segments TCP', default: true }),
  },
  probe: (name, args) => Promise.resolve().then(() => TapPort.open(name, args)),
};
