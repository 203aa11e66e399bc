/**
 * The TAP port: frames to and from a network interface of the kernel. With a virtio-net header (the default) the kernel finishes
 * checksums and segments TCP for us.
 *
 * @packageDocumentation
 */
import { channel } from 'node:diagnostics_channel';
import { integerArg, macArg, onOffArg, stringArg, type VdevDriver } from '@emudev/emudev';
import { FRAME_TX_IPV4_CSUM, FRAME_TX_L4_CSUM, FRAME_TX_TSO, SoftwarePort, type DatapathSpec } from '@emudev/ethdev';
import { linux, type Sys } from '@emudev/linux';
import type { TapInit } from './datapath.ts';
import { DEFAULT_MTU, LINK_POLL_MS, MAX_MTU, MAX_QUEUES, MAX_WRITE_BYTES, MIN_MTU, VNET_HEADER_BYTES } from './limits.ts';

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

const TAP_SPEED_MBPS = 10_000;
const ETHERNET_AND_TAG_BYTES = 18;
/** Published when the kernel has taken the interface away: `{ port, iface }`. */
export const TAP_GONE_CHANNEL = 'emudev:net-tap:gone';

interface OpenTap {
  readonly iface: string;
  readonly fds: readonly number[];
}

/** All queues of the interface, or none; LinuxError says what was missing (EPERM: CAP_NET_ADMIN). */
function open(sys: Sys, args: TapArgs): OpenTap {
  const queues = args.queues ?? 1;
  const fds: number[] = [];
  let iface = args.iface ?? 'dtap%d';
  try {
    for (let queue = 0; queue < queues; queue++) {
      const tap = sys.tapOpen(iface, { vnetHeaderBytes: (args.vnet ?? true) ? VNET_HEADER_BYTES : 0, multiQueue: queues > 1, offloads: 0 });
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
  readonly #init: TapInit;
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
    let stages: number[];
    try {
      cell = this.own(this.window.alloc(64));
      stages = tap.fds.map(() => this.own(this.window.alloc(VNET_HEADER_BYTES + MAX_WRITE_BYTES)));
    } catch (error) {
      this.release();
      throw error;
    }
    this.#init = {
      fds: tap.fds,
      headerBytes: vnet ? VNET_HEADER_BYTES : 0,
      maxFrameBytes,
      stages,
      rxCounters: this.counters.rxBlock(0),
      txCounters: this.counters.txBlock(0),
      goneCell: cell >>> 2,
    };
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    return { module: new URL('./datapath.js', import.meta.url).href, init: this.#init, wakeFds: this.#fds };
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
