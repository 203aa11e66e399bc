/** Interrupts of a kernel device: VFIO_DEVICE_GET_IRQ_INFO and VFIO_DEVICE_SET_IRQS. */
import { LinuxError } from '@emudev/linux';
import { VFIO_PCI_REQ_IRQ_INDEX } from '@emudev/vfio-user-protocol';
import { BusError } from '../errors.ts';
import { MAX_IRQ_VECTORS } from '../limits.ts';
import type { BusInterruptInfo } from '../transport.ts';
import { decodeIrqInfo, encodeIrqInfo } from '../vfio-abi/device-info.ts';
import { VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS } from '../vfio-abi/ioctl.ts';
import { encodeIrqSet } from '../vfio-abi/irq-set.ts';
import type { VfioIrqSet } from '../vfio-abi/irq-set.ts';
import { regardless } from './access.ts';
import type { VfioSys } from './access.ts';

const EINVAL = 22;

/** One device's. Errors of the kernel are passed on as they are. */
export class KernelInterrupts {
  readonly #sys: VfioSys;
  readonly #fd: number;
  readonly #info = new Map<number, BusInterruptInfo>();
  /** By index: how many vectors, from 0 on, may be connected. */
  readonly #connected = new Map<number, number>();
  readonly #onRelease = new Set<() => void>();
  #request: { readonly fd: number; readonly watch: Disposable } | undefined;

  /** The device's information has been read once: some drivers refuse everything about interrupts before. */
  constructor(sys: VfioSys, fd: number) {
    this.#sys = sys;
    this.#fd = fd;
  }

  /** An index that the device refuses has no vectors. */
  info(index: number): BusInterruptInfo {
    let info = this.#info.get(index);
    if (info === undefined) {
      info = this.#ask(index);
      this.#info.set(index, info);
    }
    return info;
  }

  #ask(index: number): BusInterruptInfo {
    const structure = encodeIrqInfo(index);
    try {
      this.#sys.ioctl(this.#fd, VFIO_DEVICE_GET_IRQ_INFO, structure);
    } catch (error) {
      if (error instanceof LinuxError && error.errno === EINVAL) return { index, count: 0, flags: 0 };
      throw error;
    }
    const { count, flags } = decodeIrqInfo(structure);
    return { index, count, flags };
  }

  /** See `PciTransport.setInterrupts`. */
  connect(index: number, start: number, fds: readonly number[]): void {
    this.#check(index, start, fds.length);
    if (fds.length === 0) return;
    // Before the call: what it has done when it fails is the driver's affair.
    this.#connected.set(index, Math.max(this.#connected.get(index) ?? 0, start + fds.length));
    this.#set({ index, start, action: 'trigger', data: { eventfds: fds } });
  }

  /** Where nothing is connected the kernel is not asked: mtty of Linux up to 6.6 gives its eventfd back as often as it is told to. */
  disconnect(index: number): void {
    this.#check(index, 0, 0);
    if (!this.#connected.delete(index)) return;
    this.#set({ index, start: 0, action: 'trigger', data: 0 });
  }

  mask(index: number, start: number, count: number, masked: boolean): void {
    this.#check(index, start, count);
    if (count > 0) this.#set({ index, start, action: masked ? 'mask' : 'unmask', data: count });
  }

  #check(index: number, start: number, count: number): void {
    const there = Math.min(this.info(index).count, MAX_IRQ_VECTORS);
    const inside = Number.isInteger(start) && Number.isInteger(count) && start >= 0 && count >= 0 && start + count <= there;
    if (!inside) throw new BusError('ERR_BUS_RANGE', `vectors ${start}+${count} of interrupt ${index}: it has ${there}`);
  }

  #set(set: VfioIrqSet): void {
    this.#sys.ioctl(this.#fd, VFIO_DEVICE_SET_IRQS, encodeIrqSet(set));
  }

  /** Calls back when the kernel wants the device back; a device without that interrupt never does. */
  onReleaseRequest(callback: () => void): Disposable {
    const own = (): void => { callback(); };
    if (this.#request === undefined && this.info(VFIO_PCI_REQ_IRQ_INDEX).count > 0) this.#request = this.#watchRequest();
    this.#onRelease.add(own);
    return {
      [Symbol.dispose]: () => {
        this.#onRelease.delete(own);
        if (this.#onRelease.size === 0) this.#unwatchRequest();
      },
    };
  }

  #watchRequest(): { readonly fd: number; readonly watch: Disposable } | undefined {
    const fd = this.#sys.eventfd();
    let watch: Disposable | undefined;
    try {
      watch = this.#sys.watch(fd, { readable: true }, () => {
        if (this.#sys.eventfdDrain(fd) > 0) for (const callback of [...this.#onRelease]) callback();
      }, { ref: false });
      this.#set({ index: VFIO_PCI_REQ_IRQ_INDEX, start: 0, action: 'trigger', data: { eventfds: [fd] } });
      return { fd, watch };
    } catch (error) {
      regardless(() => watch?.[Symbol.dispose](), () => { this.#sys.close(fd); });
      // Counted, but not implemented, by some drivers.
      if (error instanceof LinuxError && error.errno === EINVAL) return undefined;
      throw error;
    }
  }

  #unwatchRequest(): void {
    const request = this.#request;
    if (request === undefined) return;
    this.#request = undefined;
    regardless(
      () => { this.#set({ index: VFIO_PCI_REQ_IRQ_INDEX, start: 0, action: 'trigger', data: { eventfds: [-1] } }); },
      () => { request.watch[Symbol.dispose](); },
      () => { this.#sys.close(request.fd); },
    );
  }

  /**
   * Nothing is signalled any more, even where a mapping keeps the device's file open. Vector by vector: switching the index off as a whole is
   * what closing does, and what not every driver survives twice. Never throws.
   */
  end(): void {
    this.#onRelease.clear();
    this.#unwatchRequest();
    for (const [index, count] of this.#connected) regardless(() => { this.#set({ index, start: 0, action: 'trigger', data: { eventfds: Array<number>(count).fill(-1) } }); });
    this.#connected.clear();
  }
}
