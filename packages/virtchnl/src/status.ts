/** virtchnl status: the signed number in cookie_low of a reply (-5 travels as 0xFFFFFFFB). */
export const Status = {
  SUCCESS: 0,
  /** Malformed message, wrong VSI, value out of range, wrong state. */
  ERR_PARAM: -5,
  ERR_NO_MEMORY: -18,
  ERR_OPCODE_MISMATCH: -38,
  ERR_CQP_COMPL_ERROR: -39,
  /** Linux takes it (and -5) on GET_VF_RESOURCES as "disabled by the PF" and gives the device up for good. */
  ERR_INVALID_VF_ID: -40,
  ERR_ADMIN_QUEUE_ERROR: -53,
  /** Unknown opcode, or one that the negotiated capabilities do not allow. */
  ERR_NOT_SUPPORTED: -64,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Status).map(([name, value]) => [value, name]));

/** The specification's name of a status, or `STATUS_<n>`. */
export function statusName(status: number): string {
  return NAMES.get(status) ?? `STATUS_${status}`;
}
