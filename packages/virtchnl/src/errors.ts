import { opcodeName } from './opcodes.ts';
import { Status } from './status.ts';

/** Codes of `VirtchnlError`. */
export type VirtchnlErrorCode =
  /** The message is shorter or longer than its opcode allows. */
  | 'ERR_VIRTCHNL_LENGTH'
  /** An element count that the opcode does not allow (usually zero). */
  | 'ERR_VIRTCHNL_COUNT'
  /** A field's value is out of range. */
  | 'ERR_VIRTCHNL_VALUE'
  /** The opcode is unknown or not negotiated. */
  | 'ERR_VIRTCHNL_NOT_SUPPORTED'
  /** The device ran out of room for what was asked. */
  | 'ERR_VIRTCHNL_NO_MEMORY'
  /** A driver's view: the device answered with a status that is not SUCCESS. */
  | 'ERR_VIRTCHNL_REFUSED';

/** What a `VirtchnlError` says besides its code: the message's opcode, what was expected in it and what was there. */
export interface VirtchnlErrorDetails {
  readonly opcode: number;
  readonly expected: string;
  readonly seen: string;
  /** Defaults to what the code implies; -5 for most. */
  readonly status?: number;
}

const STATUS_OF: Readonly<Record<VirtchnlErrorCode, number>> = {
  ERR_VIRTCHNL_LENGTH: Status.ERR_PARAM,
  ERR_VIRTCHNL_COUNT: Status.ERR_PARAM,
  ERR_VIRTCHNL_VALUE: Status.ERR_PARAM,
  ERR_VIRTCHNL_NOT_SUPPORTED: Status.ERR_NOT_SUPPORTED,
  ERR_VIRTCHNL_NO_MEMORY: Status.ERR_NO_MEMORY,
  ERR_VIRTCHNL_REFUSED: Status.ERR_PARAM,
};

/** The one error of this package. `status` is what goes into the reply. */
export class VirtchnlError extends Error {
  override readonly name = 'VirtchnlError';
  readonly code: VirtchnlErrorCode;
  readonly status: number;
  readonly opcode: number;
  readonly expected: string;
  readonly seen: string;

  constructor(code: VirtchnlErrorCode, details: VirtchnlErrorDetails) {
    super(`${opcodeName(details.opcode)}: expected ${details.expected}, saw ${details.seen}`);
    this.code = code;
    this.status = details.status ?? STATUS_OF[code];
    this.opcode = details.opcode;
    this.expected = details.expected;
    this.seen = details.seen;
  }
}

/** Throws ERR_VIRTCHNL_VALUE (status -5) unless `ok`. */
export function requireValue(ok: boolean, opcode: number, expected: string, seen: string | number | bigint): asserts ok {
  if (!ok) throw new VirtchnlError('ERR_VIRTCHNL_VALUE', { opcode, expected, seen: String(seen) });
}
