/**
 * Capabilities behind a VFIO info structure: struct vfio_info_cap_header, each with the offset of the next from the start of the
 * structure. The kernel is asked with room for all of them, or it says how much they need (`askWithArgsz`).
 */
import { BusError } from '../errors.ts';
import { MAX_ARGSZ_ATTEMPTS, MAX_VFIO_CAPABILITIES, MAX_VFIO_INFO_BYTES } from '../limits.ts';
import { received, viewOf } from './bytes.ts';

const HEADER_BYTES = 8;

/** A capability: its number, version, and where its body is. */
export interface VfioCapability {
  readonly id: number;
  readonly version: number;
  /** Offset of the capability's header in the structure. */
  readonly offset: number;
  /** What may belong to it: header included, up to where the next capability or the structure ends. */
  readonly bytes: Uint8Array;
}

/**
 * Asks until the answer fits: `ask` gets a structure of `argsz` bytes whose first word says so and has the kernel fill it in. Returns
 * the answer, `argsz` bytes of it. ERR_BUS_VFIO_ARGSZ where the need is less than `least`, more than `MAX_VFIO_INFO_BYTES`, or keeps growing.
 */
export function askWithArgsz(least: number, name: string, ask: (structure: Uint8Array) => void): Uint8Array {
  let argsz = least;
  for (let attempt = 0; attempt < MAX_ARGSZ_ATTEMPTS; attempt++) {
    const bytes = new Uint8Array(argsz);
    viewOf(bytes).setUint32(0, argsz, true);
    ask(bytes);
    // CLIENT: the device's word, for memory that is about to be allocated.
    const needed = viewOf(bytes).getUint32(0, true);
    if (needed < least || needed > MAX_VFIO_INFO_BYTES) throw new BusError('ERR_BUS_VFIO_ARGSZ', `${name} says it needs ${needed} bytes; ${least} to ${MAX_VFIO_INFO_BYTES} are sensible`);
    if (needed <= argsz) return bytes.subarray(0, needed);
    argsz = needed;
  }
  throw new BusError('ERR_BUS_VFIO_ARGSZ', `${name} needs more bytes each time it is asked, ${argsz} now`);
}

/**
 * The chain that begins at `first` (0: there is none) of a structure with `fixedBytes` of its own. ERR_BUS_VFIO_CHAIN where it leaves
 * the structure, points into the fixed part, comes back to a capability, or has more than `MAX_VFIO_CAPABILITIES`. The order of offsets is the
 * device's, but two capabilities do not overlap.
 */
export function capabilitiesOf(structure: Uint8Array, first: number, fixedBytes: number, name: string): readonly VfioCapability[] {
  const view = viewOf(structure);
  const offsets: number[] = [];
  for (let at = first; at !== 0; at = view.getUint32(at + 4, true)) {
    if (at < fixedBytes || at + HEADER_BYTES > structure.length) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: a capability at ${at}, possible are ${fixedBytes} to ${structure.length - HEADER_BYTES}`);
    if (offsets.includes(at)) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: the capabilities run in a circle, at ${at}`);
    if (offsets.length === MAX_VFIO_CAPABILITIES) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: more than ${MAX_VFIO_CAPABILITIES} capabilities`);
    offsets.push(at);
  }
  return offsets.map((offset) => {
    const end = Math.min(structure.length, ...offsets.filter((other) => other > offset));
    if (end - offset < HEADER_BYTES) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: capabilities at ${offset} and ${end} overlap`);
    return { id: view.getUint16(offset, true), version: view.getUint16(offset + 2, true), offset, bytes: structure.subarray(offset, end) };
  });
}

/** The body of a capability of at least `least` bytes, header included. ERR_BUS_VFIO_CHAIN where it is cut off. */
export function bodyOf(capability: VfioCapability, least: number, name: string): DataView {
  if (capability.bytes.length < least) throw new BusError('ERR_BUS_VFIO_CHAIN', `${name}: ${capability.bytes.length} bytes are left for it at ${capability.offset}, it needs ${least}`);
  return received(capability.bytes, least, name);
}
