/** How a session ended, and what the device is told about it (`DetachReason` of @emudev/pci). */
export type DisconnectReason =
  /** End of stream between two messages: the client closed its socket or its process ended. */
  | 'closed'
  /** The socket failed, or ended in the middle of a message; or the client stopped in the middle of one. */
  | 'connection-lost'
  /** VERSION was refused, or was not the first message. */
  | 'negotiation-failed'
  /** Connected and silent. */
  | 'negotiation-timeout'
  /** The stream cannot be trusted: impossible sizes, lost descriptors, no reading of replies. */
  | 'protocol-error'
  /** The device did not become quiescent: its memory must not change under it. */
  | 'quiesce-failed'
  /** `VfioUserServer.close`. */
  | 'server-closed';

/** Codes of `VfioUserServerError`. An application gets them thrown or in an event; a client gets only the `errno`. */
export type ServerErrorCode =
  /** listen, adoptListener or adoptConnection on a server that already serves something, or is closed. */
  | 'ERR_SERVER_STATE'
  /** The device's description contradicts itself. */
  | 'ERR_SERVER_DEVICE'
  /** A descriptor for an interrupt that is not an eventfd. */
  | 'ERR_SERVER_NOT_EVENTFD'
  /** More eventfds that mask or unmask than can be watched. */
  | 'ERR_SERVER_MASK_EVENTFDS'
  /** More DMA mappings than announced. */
  | 'ERR_SERVER_DMA_MAPS'
  /** A FILE_IO region on what is no regular file. */
  | 'ERR_SERVER_DMA_FILE'
  /** The device did not become quiescent. */
  | 'ERR_SERVER_QUIESCE'
  /** A descriptor to serve on that is no UNIX stream socket, or socket activation that makes no sense. */
  | 'ERR_SERVER_SOCKET'
  /** A client of a user who is not allowed. */
  | 'ERR_SERVER_CREDENTIALS'
  /** A message that was begun and never completed. */
  | 'ERR_SERVER_TIMEOUT'
  /** The client answered a DMA message with an error, with nonsense, or not in time; or it left. */
  | 'ERR_SERVER_DMA_MESSAGE';

/** `errno` is what goes into an error reply. */
export class VfioUserServerError extends Error {
  override readonly name = 'VfioUserServerError';
  readonly code: ServerErrorCode;
  readonly errno: number;
  constructor(code: ServerErrorCode, errno: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.errno = errno;
  }
}

const MAX_ERRNO = 4095;
const EIO = 5;

/** The errno of a typed error (all families of this project carry a positive one); undefined for anything else that was thrown. */
export function typedErrno(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const errno = (error as { errno?: unknown }).errno;
  return typeof errno === 'number' && Number.isInteger(errno) && errno >= 1 && errno <= MAX_ERRNO ? errno : undefined;
}

export const replyErrnoOf = (error: unknown): number => typedErrno(error) ?? EIO;
