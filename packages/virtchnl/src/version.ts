/** VERSION (1): request and reply have the same 8 bytes. */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

/** VIRTCHNL_VERSION_MAJOR spoken here. */
export const VERSION_MAJOR = 1;
/** VIRTCHNL_VERSION_MINOR spoken here. */
export const VERSION_MINOR = 1;

/** Body of VERSION (struct virtchnl_version_info), both ways. */
export interface Version {
  readonly major: number;
  readonly minor: number;
}

/** 8 bytes, both ways; 1.1 by default. */
export function encodeVersion(version: Version = { major: VERSION_MAJOR, minor: VERSION_MINOR }): Uint8Array {
  const out = new MessageWriter(Opcode.VERSION, 8);
  out.u32(0, version.major);
  out.u32(4, version.minor);
  return out.bytes;
}

/** Throws VirtchnlError (-5) unless the payload has 8 bytes. */
export function decodeVersion(payload: Uint8Array): Version {
  exactLength(Opcode.VERSION, payload, 8);
  const view = viewOf(payload);
  return { major: view.getUint32(0, true), minor: view.getUint32(4, true) };
}
