/** A small PCI card for vfio-user tests: registers, one page that can be mapped, an echo by DMA, interrupts of all kinds. */
import { linux, OwnedFd } from '@emudev/linux';
import { BasicPciDevice, IRQ_MSIX, IRQ_REQ, registers } from '@emudev/pci';

export const CARD_IDS = { vendor: 0x1234, device: 0x0c0d, subsystemVendor: 0x1af4, subsystemDevice: 0x1100, classCode: 0xff0000 };

/** BAR 0: a scratch register, DMA echo, interrupts; from 0x1000 on a page of memory. */
export const SCRATCH = 0x00;
/** Where the device fetches 64 bytes, and stores them, each plus one, 64 bytes further on. A write starts it. */
export const ECHO_LOW = 0x04;
export const ECHO_HIGH = 0x08;
/** Raises MSI-X vector `value`. */
export const RAISE = 0x0c;
/** The level of INTx. */
export const INTX = 0x10;
/** Wants the device back. */
export const REQUEST = 0x14;
/** Ends the process (of a card in a process of its own). */
export const DIE = 0x18;
export const PAGE = 0x1000;

export class Card extends BasicPciDevice implements Disposable {
  readonly #file: OwnedFd;

  constructor(sealed = true) {
    const file = new OwnedFd(linux.memfdCreate('card', { allowSealing: true }));
    linux.ftruncate(file.fd, 8192);
    // Sealed against seals, but not against shrinking: no client may map that.
    linux.addSeals(file.fd, sealed ? 2 : 1);
    const state = { scratch: 0, low: 0 };
    const handler = registers({
      [SCRATCH]: { read: () => state.scratch, write: (value) => { state.scratch = value; } },
      [ECHO_LOW]: { read: () => state.low, write: (value) => { state.low = value; } },
      [ECHO_HIGH]: { write: (value) => this.#echo((BigInt(value) << 32n) | BigInt(state.low)) },
      [RAISE]: { write: (value) => { this.host?.trigger(IRQ_MSIX, value); } },
      [INTX]: { write: (value) => { this.setIntx(value !== 0); } },
      [REQUEST]: { write: () => { this.host?.trigger(IRQ_REQ, 0); } },
      [DIE]: { write: () => { process.exit(0); } },
    });
    super({
      name: 'card', vendorId: CARD_IDS.vendor, deviceId: CARD_IDS.device, subsystemVendorId: CARD_IDS.subsystemVendor, subsystemId: CARD_IDS.subsystemDevice, classCode: CARD_IDS.classCode,
      bars: [{
        index: 0, kind: 'memory32', sizeBytes: 8192, mmap: { areas: [{ offset: PAGE, sizeBytes: 4096 }], backing: { fd: file.fd, offset: 0 } },
        handler: {
          read: (offset, into) => (offset < PAGE ? handler.read(offset, into) : void linux.pread(file.fd, into, offset)),
          write: (offset, from) => (offset < PAGE ? handler.write(offset, from) : void linux.pwrite(file.fd, from, offset)),
        },
      }],
      intx: true, msix: { vectors: 4, bar: 2 }, req: true,
    });
    this.#file = file;
  }

  async #echo(iova: bigint): Promise<void> {
    const bytes = new Uint8Array(64);
    await this.host!.memory.read(iova, bytes);
    await this.host!.memory.write(iova + 64n, bytes.map((byte) => byte + 1));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
