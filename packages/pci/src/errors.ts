/** A device description that contradicts itself or the PCI rules. Thrown while a device is being put together, never by a consumer's access. */
export class PciLayoutError extends Error {
  readonly code = 'ERR_PCI_LAYOUT';
  readonly errno = 22; // EINVAL
  override readonly name = 'PciLayoutError';
}

/** An access outside a region: the transport has not checked it (`PciDevice.read` and `write` require it to). */
export class PciRangeError extends Error {
  readonly code = 'ERR_PCI_RANGE';
  readonly errno = 22; // EINVAL
  override readonly name = 'PciRangeError';
  constructor(what: string, offset: number, lengthBytes: number, sizeBytes: number) {
    super(`${what}: ${lengthBytes} bytes at 0x${offset.toString(16)} do not lie in its 0x${sizeBytes.toString(16)} bytes`);
  }
}

/** A device refuses an access or a change of state: what it throws from `read`, `write` or a migration hop. `errno` is what the consumer sees. */
export class PciAccessError extends Error {
  readonly code = 'ERR_PCI_ACCESS';
  readonly errno: number;
  override readonly name = 'PciAccessError';
  /** EINVAL (22) unless something else fits better. */
  constructor(message: string, errno = 22) {
    super(message);
    this.errno = errno;
  }
}

export function checkRange(what: string, offset: number, lengthBytes: number, sizeBytes: number): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + lengthBytes > sizeBytes) throw new PciRangeError(what, offset, lengthBytes, sizeBytes);
}
