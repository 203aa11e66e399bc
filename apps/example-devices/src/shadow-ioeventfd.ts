/**
 * A doorbell that costs no message: the consumer's kernel stores what the guest writes to BAR0 + 0 in shared memory and signals an
 * eventfd. Where the consumer does not use it (none does without patches to KVM), the same write arrives as a message.
 */
import { F_SEAL_GROW, F_SEAL_SHRINK, linux } from '@emudev/linux';
import { BasicPciDevice, registers, type IoFd } from '@emudev/pci';

const PAGE_BYTES = 0x1000;
const DOORBELL_BYTES = 4;

export class ShadowIoeventfdDevice extends BasicPciDevice implements Disposable {
  /** Last value rung, and how often, by shared memory or by message. Rings that come together are one. */
  readonly doorbell: { value: number; rings: number } = { value: 0, rings: 0 };
  readonly #eventFd: number = linux.eventfd();
  readonly #memoryFd: number = linux.memfdCreate('doorbell', { allowSealing: true });
  #watch: Disposable | undefined;

  constructor() {
    super({
      name: 'shadow-ioeventfd', vendorId: 0x4e58, deviceId: 0x0000, classCode: 0xff0000,
      bars: [{
        index: 0, kind: 'memory32', sizeBytes: PAGE_BYTES,
        handler: registers({
          0x0: { read: () => this.doorbell.value, write: (value) => { this.#ring(value); } },
          // Beside it a register that always takes a message, to compare.
          0x8: { read: () => this.doorbell.rings, write: (value) => { this.#ring(value); } },
        }),
      }],
    });
    linux.ftruncate(this.#memoryFd, PAGE_BYTES);
    // Neither side can shrink what the other has mapped.
    linux.addSeals(this.#memoryFd, F_SEAL_SHRINK | F_SEAL_GROW);
  }

  ioFds(region: number): readonly IoFd[] {
    if (region !== 0) return [];
    return [{ kind: 'shadow', offset: 0, sizeBytes: DOORBELL_BYTES, fd: this.#eventFd, flags: 0, datamatch: 0n, memoryFd: this.#memoryFd, memoryOffset: 0 }];
  }

  protected override onAttach(): void {
    this.#watch = linux.watch(this.#eventFd, { readable: true }, () => {
      linux.eventfdDrain(this.#eventFd);
      const bytes = new Uint8Array(DOORBELL_BYTES);
      linux.pread(this.#memoryFd, bytes, 0);
      this.#ring(new DataView(bytes.buffer).getUint32(0, true));
    });
  }

  protected override onDetach(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  protected override onReset(): void {
    this.doorbell.value = 0;
    this.doorbell.rings = 0;
  }

  [Symbol.dispose](): void {
    this.onDetach();
    linux.close(this.#eventFd);
    linux.close(this.#memoryFd);
  }

  #ring(value: number): void {
    this.doorbell.value = value;
    this.doorbell.rings++;
  }
}
