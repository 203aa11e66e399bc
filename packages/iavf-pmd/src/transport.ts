/**
 * What the driver needs of a way to an iavf function: configuration space, registers, DMA maps, vectors, and, where the device
 * offers them, its doorbell pages in the DMA window. `vfio-user-transport.ts` is the real one; tests bring their own.
 */
export interface IavfTransport {
  /** Little-endian word of the configuration space. */
  readConfig16(offset: number): Promise<number>;
  /** Writes a little-endian word of the configuration space. */
  writeConfig16(offset: number, value: number): Promise<void>;
  /** Register of BAR0. */
  read32(offset: number): Promise<number>;
  /** Writes a register of BAR0; resolves when the device has taken it. */
  write32(offset: number, value: number): Promise<void>;
  /** The same without an answer; resolves when the message is on its way. */
  post32(offset: number, value: number): Promise<void>;
  /** Makes [iova, iova + sizeBytes) of the device's address space the beginning of file `fd`, readable and writable. */
  dmaMap(iova: bigint, sizeBytes: number, fd: number): Promise<void>;
  /** Takes back what was mapped with exactly this range. */
  dmaUnmap(iova: bigint, sizeBytes: number): Promise<void>;
  /** Eventfd of MSI-X vector 0; undefined takes it back. */
  setMiscVector(fd: number | undefined): Promise<void>;
  /** Window offsets of the pages with QTX_TAIL and QRX_TAIL; undefined: doorbells are trapped. Valid until `close`. */
  readonly doorbells: { readonly tx: number; readonly rx: number } | undefined;
  /** Settles (never rejects) when the device has gone or `close` was called. */
  readonly closed: Promise<unknown>;
  /** `keepDoorbells`: their pages stay in the window for good, because an lcore may still store into them. */
  close(options?: { readonly keepDoorbells?: boolean }): Promise<void>;
}
