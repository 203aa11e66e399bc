/** What the parts of a client see of its connection: somebody who takes requests. */
import type { Sys } from '@emudev/linux';
import type { DeviceInfo, EffectiveCapabilities } from '@emudev/vfio-user-protocol';
import { badArgument } from './errors.ts';
import type { AnnouncedCapabilities } from './negotiation.ts';
import type { CallOptions, RequestOptions } from './requests.ts';

/** One connection, or whichever one there is at present. */
export interface Requester {
  /** Sends a command and resolves with what `accept` makes of its reply. */
  request<T>(command: number, payload: Uint8Array, options: RequestOptions<T>): Promise<T>;
}

export interface Link extends Requester {
  readonly sys: Sys;
  /** false: waiting on the device does not keep the process alive. */
  readonly ref: boolean;
  /** What the server says it can receive. */
  readonly server: EffectiveCapabilities;
  /** What this side said it can receive. */
  readonly own: AnnouncedCapabilities & { readonly maxDataXferSize: number };
  readonly info: DeviceInfo;
  /** A lost connection is made again: what the device was told has to be kept for it. */
  readonly reconnects: boolean;
  /** Sends a command nobody answers; resolves when the kernel has taken it. */
  post(command: number, payload: Uint8Array, call?: CallOptions): Promise<void>;
  /** Throws the reason where the connection has ended for good. */
  checkOpen(): void;
  /** Resolves when it has. */
  readonly ended: Promise<void>;
}

/** `accept` of commands whose reply is only a header. */
export const HEADER_ONLY: { readonly maxReplyBytes: 0; readonly accept: () => void } = { maxReplyBytes: 0, accept: () => {} };

export function isIndex(value: number, below: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < below;
}

export function checkIndex(value: number, below: number, what: string): void {
  if (!isIndex(value, below)) throw badArgument(`no ${what} ${value}`);
}

export function hex(address: bigint | number): string {
  return `0x${address.toString(16)}`;
}
