/** Codes of `PcapError`. */
export type PcapErrorCode =
  /** Neither rx_pcap nor tx_pcap, or both are the same file. */
  | 'ERR_PCAP_ARGS'
  /** The file cannot be opened, read or written; `cause` says why. */
  | 'ERR_PCAP_FILE'
  /** Not a regular file: a pipe or a device could block an lcore. */
  | 'ERR_PCAP_FILE_TYPE'
  /** Not a classic pcap file of version 2.4, or it ends inside its header. */
  | 'ERR_PCAP_FORMAT'
  /** The file's frames are not plain Ethernet. */
  | 'ERR_PCAP_LINKTYPE';

const ERRNO: Record<PcapErrorCode, number> = {
  ERR_PCAP_ARGS: 22, // EINVAL
  ERR_PCAP_FILE: 5, // EIO, unless the cause knows better
  ERR_PCAP_FILE_TYPE: 22,
  ERR_PCAP_FORMAT: 22,
  ERR_PCAP_LINKTYPE: 93, // EPROTONOSUPPORT
};

/** Why a capture port could not be made. */
export class PcapError extends Error {
  override readonly name = 'PcapError';
  readonly code: PcapErrorCode;
  /** For whoever has to tell a peer. */
  readonly errno: number;

  constructor(code: PcapErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    const causeErrno = (options?.cause as { errno?: unknown } | undefined)?.errno;
    // Node reports errnos negative.
    this.errno = typeof causeErrno === 'number' ? Math.abs(causeErrno) : ERRNO[code];
  }
}
