/** What a device is to `FakeVfio`. */

/** A region as the model has it; the file of the device has its contents, unless the model answers itself. */
export interface FakeRegion {
  readonly offset: number;
  readonly sizeBytes: number;
  /** VFIO_REGION_INFO_FLAG_*, without the one for capabilities. */
  readonly flags: number;
  /** What follows the 32 bytes of struct vfio_region_info: the chain's offsets count from the structure. */
  readonly capabilities?: Uint8Array;
  /** Where the chain begins; 32 unless given. */
  readonly firstCapability?: number;
  /** Bytes that are asked for, call after call, before the answer is given. */
  readonly growing?: readonly number[];
}

/** A device. */
export interface FakeModel {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  /** undefined: the kernel says EINVAL for the index. */
  readonly regions: readonly (FakeRegion | undefined)[];
  readonly irqs: readonly ({ readonly count: number; readonly flags: number } | undefined)[];
  /** Everything about interrupts is EINVAL until the device's information was read. */
  readonly infoFirst?: boolean;
  /** Bytes of struct vfio_device_info. */
  readonly infoBytes?: number;
  /** Bytes done; undefined: the device's file has the contents. */
  read?(region: number, offset: number, into: Uint8Array): number | undefined;
  write?(region: number, offset: number, from: Uint8Array): number | undefined;
  /** Where a signal goes to; the fake's kernel calls it when interrupts are set. */
  connected?(index: number, signals: readonly (() => void)[]): void;
  /** false: SET_IRQS is EINVAL. */
  readonly settable?: boolean;
  /** What SET_IRQS did, for tests: 'trigger 0 [fds]', 'unmask 0+1'. */
  readonly log?: string[];
  reset?(): void;
}
