/**
 * The second socket of a session, for the server's own commands: a client that serves DMA_READ and DMA_WRITE there needs not look
 * for them between the replies to its own.
 *
 * | on the twin | what it means                                       |
 * | ----------- | --------------------------------------------------- |
 * | reply       | to whoever waits for it                             |
 * | command     | the client has mixed up its sockets: the session ends |
 * | end, error  | the session ends, and with it the main socket       |
 */
import type { Sys } from '@emudev/linux';
import { commandName, isReply, type EffectiveCapabilities, type Frame, type FrameLimits } from '@emudev/vfio-user-protocol';
import { Connection, type ConnectionOptions } from './connection.ts';
import { VfioUserServerError, type DisconnectReason } from './errors.ts';

export interface TwinHandler {
  /** Its descriptors, if any, now belong to the handler. */
  onReply(frame: Frame): void;
  /** As for the main connection. */
  readonly awaiting: boolean;
  /** The twin is closed already. */
  onEnd(reason: Extract<DisconnectReason, 'closed' | 'connection-lost' | 'protocol-error'>, error?: unknown): void;
}

/** The client's wish, where it can be fulfilled: the socket travels as a descriptor. */
export function wantsTwin(client: EffectiveCapabilities): boolean {
  return client.twinSocket && client.maxMsgFds > 0;
}

const EINVAL = 22;

/** @returns our end and the client's; the latter is the caller's to close once it is sent. @throws LinuxError EMFILE */
export function openTwin(sys: Sys, limits: FrameLimits, handler: TwinHandler, options: ConnectionOptions): { readonly connection: Connection; readonly theirs: number } {
  const [ours, theirs] = sys.unixSocketPair();
  try {
    const connection: Connection = new Connection(sys, ours, limits, {
      onTurn: () => undefined,
      onDrained: () => undefined,
      onEnd: (reason, error) => { handler.onEnd(reason, error); },
      get awaiting() { return handler.awaiting; },
      onFrame: (frame) => {
        if (isReply(frame.flags)) return handler.onReply(frame);
        for (const fd of frame.fds) sys.close(fd);
        connection.close();
        handler.onEnd('protocol-error', new VfioUserServerError('ERR_SERVER_STATE', EINVAL, `${commandName(frame.command)} on the twin socket: commands of a client come on the main one`));
      },
    }, options);
    return { connection, theirs };
  } catch (error) {
    sys.close(ours);
    sys.close(theirs);
    throw error;
  }
}
