/** A capture as sessions to be played: what the client sent, and what the server said to it. */
import { decodeHeader, HEADER_BYTES, isCommand, isPosted, isReply, type Header } from '@emudev/vfio-user-protocol';
import { readCapture, type CapturedMessage } from '../pcapng/capture.ts';
import { CaptureError } from '../pcapng/errors.ts';

export interface RecordedMessage {
  /** Counted from 1 within the session, for people. */
  readonly number: number;
  readonly captured: CapturedMessage;
  /** undefined: bytes that are no message. */
  readonly header: Header | undefined;
  readonly payload: Uint8Array;
  readonly kind: 'command' | 'posted' | 'reply' | 'raw';
  /** Of a reply: the command it answers. Of a command: its reply, if it had one. */
  partner: RecordedMessage | undefined;
}

/** @throws CaptureError where the file is not a capture of ours, not whole, or holds messages that were not kept whole */
export function readRecording(file: Uint8Array): Map<number, RecordedMessage[]> {
  const sessions = new Map<number, RecordedMessage[]>();
  const open = new Map<string, RecordedMessage[]>();
  for (const captured of readCapture(file)) {
    if (!('bytes' in captured)) continue;
    let messages = sessions.get(captured.session);
    if (messages === undefined) sessions.set(captured.session, (messages = []));
    const message = recorded(captured, messages.length + 1);
    messages.push(message);
    if (message.header !== undefined) pair(open, message, message.header);
  }
  return sessions;
}

function recorded(captured: CapturedMessage, number: number): RecordedMessage {
  const { bytes, size, offset } = captured;
  if (captured.framing === 'raw') return { number, captured, header: undefined, payload: bytes, kind: 'raw', partner: undefined };
  if (captured.framing === 'cut' && bytes.length === size && bytes.length < HEADER_BYTES) return { number, captured, header: undefined, payload: bytes, kind: 'raw', partner: undefined };
  if (bytes.length < HEADER_BYTES || bytes.length !== size) throw new CaptureError(offset, `message ${number} of session ${captured.session} has ${size} bytes, of which ${bytes.length} were captured`);
  const header = decodeHeader(bytes);
  // The client hung up in the middle of it: it is played as the bytes it is.
  if (header.size !== bytes.length) return { number, captured, header: undefined, payload: bytes, kind: 'raw', partner: undefined };
  const kind = isReply(header.flags) ? 'reply' : isCommand(header.flags) && !isPosted(header.flags) ? 'command' : 'posted';
  return { number, captured, header, payload: bytes.subarray(HEADER_BYTES), kind, partner: undefined };
}

function pair(open: Map<string, RecordedMessage[]>, message: RecordedMessage, header: Header): void {
  const { session, channel, from } = message.captured;
  const sender = message.kind === 'reply' ? (from === 'client' ? 'server' : 'client') : from;
  const key = `${session} ${channel} ${sender} ${header.id} ${header.command}`;
  if (message.kind === 'command') {
    const queue = open.get(key);
    if (queue === undefined) open.set(key, [message]);
    else queue.push(message);
  } else if (message.kind === 'reply') {
    const request = open.get(key)?.shift();
    message.partner = request;
    if (request !== undefined) request.partner = message;
  }
}
