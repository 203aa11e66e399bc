import { channel } from 'node:diagnostics_channel';
import type { VdevClass } from './vdev.ts';

/** `node:diagnostics_channel` on which a bus tells of devices that come and go, as `VdevDiagnostic`. */
export const VDEV_DIAGNOSTICS = 'emudev.vdev';

/** A device of a bus has come or gone. */
export interface VdevDiagnostic {
  /** removed: it is closed and its name is free, whether closing went well or not. */
  readonly event: 'added' | 'removed';
  readonly device: string;
  readonly driver: string;
  readonly class: VdevClass;
  /** What closing it threw. */
  readonly error?: unknown;
}

const diagnostics = channel(VDEV_DIAGNOSTICS);

export function publishVdev(message: VdevDiagnostic): void {
  if (diagnostics.hasSubscribers) diagnostics.publish(message);
}
