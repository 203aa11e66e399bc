/**
 * Plays the client of a recorded session against a server.
 *
 * | recorded                   | done                                                                                      |
 * | -------------------------- | ------------------------------------------------------------------------------------------ |
 * | the client's command       | sent, with descriptors made anew                                                           |
 * | the server's reply         | awaited and compared; the client goes on only then, as it did                              |
 * | the server's command       | awaited; one with the same content, whatever its id, gets the recorded reply when it comes |
 * | the client's reply         | nothing: it was sent when the server asked                                                 |
 */
import { linux, type Sys } from '@emudev/linux';
import {
  commandName, decodeVersion, describeMessage, encodeErrorReply, isPosted, isReply, VFIO_USER_VERSION, type Frame,
} from '@emudev/vfio-user-protocol';
import { MAX_REPLAY_BACKLOG, MAX_REPLAY_BACKLOG_BYTES, MAX_REPLAY_BACKLOG_FDS } from '../limits.ts';
import { Descriptors } from '../trace/descriptors.ts';
import type { ChannelName } from '../trace/observed.ts';
import { compareReplies, type FieldDifference } from './compare.ts';
import type { Ignored } from './ignore.ts';
import { Link, withId } from './link.ts';
import { Recreated, ReplayError } from './recreate.ts';
import type { RecordedMessage } from './recording.ts';

export interface ReplayOptions {
  readonly ignored?: readonly Ignored[];
  /** Keep the recording's pauses. */
  readonly asRecorded?: boolean;
  /** How long to wait for each message of the server. */
  readonly timeoutMs?: number;
  readonly sys?: Sys;
}

export interface Difference {
  /** The message of the recording it is about; undefined: about none. */
  readonly message: RecordedMessage | undefined;
  /** Fields that differ, or what else is wrong. */
  readonly what: readonly FieldDifference[] | string;
}

export interface ReplayResult {
  readonly sent: number;
  readonly compared: number;
  readonly differences: readonly Difference[];
}

const EINVAL = 22;

/** @throws LinuxError where nobody listens, ReplayError where the recording cannot be played */
export async function replaySession(messages: readonly RecordedMessage[], connect: string, options: ReplayOptions = {}): Promise<ReplayResult> {
  using replayer = new Replayer(messages, connect, options);
  return await replayer.run();
}

class Replayer implements Disposable {
  readonly #sys: Sys;
  readonly #messages: readonly RecordedMessage[];
  readonly #options: ReplayOptions;
  readonly #recreated: Recreated;
  readonly #descriptors: Descriptors;
  readonly #links = new Map<ChannelName, Link>();
  readonly #differences: Difference[] = [];
  /** Replies that nobody has asked for yet. */
  readonly #replies: Frame[] = [];
  /** The server's recorded commands that it has not sent yet, in their order. */
  readonly #awaited: Set<RecordedMessage>;
  /** The server's commands that the recording does not have. */
  #unknown = 0;
  /** Of the replies. */
  #heldBytes = 0;
  #heldFds = 0;
  #ended: string | undefined;
  #wake: () => void = () => {};
  #sent = 0;
  #compared = 0;

  constructor(messages: readonly RecordedMessage[], connect: string, options: ReplayOptions) {
    this.#messages = messages;
    this.#options = options;
    this.#sys = options.sys ?? linux;
    this.#recreated = new Recreated(this.#sys);
    this.#descriptors = new Descriptors(this.#sys);
    this.#awaited = new Set(messages.filter(({ captured, kind }) => captured.from === 'server' && (kind === 'command' || kind === 'posted')));
    this.#link('main', this.#sys.unixConnect(connect));
  }

  [Symbol.dispose](): void {
    for (const link of this.#links.values()) link[Symbol.dispose]();
    for (const { fds } of this.#replies) for (const fd of fds) this.#sys.close(fd);
    this.#recreated[Symbol.dispose]();
  }

  async run(): Promise<ReplayResult> {
    const startMs = performance.now();
    const firstNs = this.#messages[0]?.captured.atNs ?? 0n;
    for (const message of this.#messages) {
      const { from, atNs } = message.captured;
      if (from === 'client') {
        if (message.kind === 'reply') continue;
        if (this.#options.asRecorded === true) await pause(startMs + Number(atNs - firstNs) / 1e6 - performance.now());
        this.#send(message);
      } else if (message.kind === 'reply') {
        if (!(await this.#expectReply(message))) break;
      } else if (message.kind === 'raw') {
        this.#differences.push({ message, what: 'the recorded server sent what is no message: nothing can be compared from here on' });
        break;
      } else if (!(await this.#expectCommand(message))) {
        break;
      }
    }
    for (const frame of this.#replies) this.#differences.push({ message: undefined, what: `the server answers ${commandName(frame.command)} with id ${frame.id}, which the recording does not have` });
    return { sent: this.#sent, compared: this.#compared, differences: this.#differences };
  }

  #link(channel: ChannelName, fd: number): void {
    this.#links.set(channel, new Link(this.#sys, fd, {
      frame: (frame) => { this.#frame(channel, frame); },
      ended: (why) => {
        if (channel === 'main') this.#ended = why;
        this.#wake();
      },
    }));
  }

  #send(message: RecordedMessage): void {
    const fds: number[] = [];
    try {
      for (const info of message.captured.fds) fds.push(this.#recreated.open(info));
    } catch (error) {
      for (const fd of fds) this.#sys.close(fd);
      if (error instanceof ReplayError) throw new ReplayError(`message ${message.number} (${message.header === undefined ? 'raw' : commandName(message.header.command)}): ${error.message}`);
      throw error;
    }
    this.#sent++;
    // A command of the client goes by the main socket, whatever the recording says.
    this.#links.get('main')!.send(message.captured.bytes, fds);
  }

  #frame(channel: ChannelName, frame: Frame): void {
    if (this.#ended !== undefined) {
      for (const fd of frame.fds) this.#sys.close(fd);
    } else if (isReply(frame.flags)) {
      if (frame.command === VFIO_USER_VERSION) this.#takeTwin(frame);
      this.#replies.push(frame);
      this.#heldBytes += frame.payload.length;
      this.#heldFds += frame.fds.length;
      if (this.#replies.length > MAX_REPLAY_BACKLOG) this.#giveUp(`${MAX_REPLAY_BACKLOG} messages`);
      else if (this.#heldBytes > MAX_REPLAY_BACKLOG_BYTES) this.#giveUp(`${MAX_REPLAY_BACKLOG_BYTES} bytes`);
      else if (this.#heldFds > MAX_REPLAY_BACKLOG_FDS) this.#giveUp(`${MAX_REPLAY_BACKLOG_FDS} descriptors`);
    } else {
      for (const fd of frame.fds) this.#sys.close(fd);
      this.#answer(channel, frame);
    }
    this.#wake();
  }

  /** The server floods us. */
  #giveUp(withMoreThan: string): void {
    this.#ended = `the server sends more than ${withMoreThan} that were not asked for`;
    this.#differences.push({ message: undefined, what: this.#ended });
    for (const link of this.#links.values()) link[Symbol.dispose]();
  }

  /** The twin socket is ours to use; what is compared still has a descriptor of the kind. */
  #takeTwin(frame: Frame): void {
    let own: number | undefined;
    try {
      const twin = decodeVersion(frame.payload).capabilities?.twinSocket;
      const fd = twin?.supported === true && twin.fdIndex !== undefined ? frame.fds[twin.fdIndex] : undefined;
      if (fd === undefined || this.#links.has('twin')) return;
      own = this.#sys.dup(fd);
      this.#link('twin', own);
    } catch {
      // The comparison says what is wrong with it; a file, for instance, cannot be watched.
      if (own !== undefined) this.#sys.close(own);
    }
  }

  #answer(channel: ChannelName, frame: Frame): void {
    const recorded = this.#takeAwaited(frame);
    const link = this.#links.get(channel)!;
    if (recorded === undefined) {
      const { name, fields } = describeMessage(frame, frame.payload);
      this.#differences.push({ message: undefined, what: `the server sends ${name}(${fields.map((f) => `${f.name}=${f.value}`).join(', ')}), which the recording does not have` });
      if (!isPosted(frame.flags)) link.send(encodeErrorReply(frame.id, frame.command, EINVAL), []);
      if (++this.#unknown > MAX_REPLAY_BACKLOG) this.#giveUp(`${MAX_REPLAY_BACKLOG} messages`);
    } else if (recorded.partner !== undefined) {
      link.send(withId(recorded.partner.captured.bytes, frame.id), []);
    }
  }

  /** The recorded command that this one is. */
  #takeAwaited({ command, flags, payload }: Frame): RecordedMessage | undefined {
    for (const message of this.#awaited) {
      const header = message.header!;
      if (header.command !== command || isPosted(header.flags) !== isPosted(flags) || !same(message.payload, payload)) continue;
      this.#awaited.delete(message);
      return message;
    }
    return undefined;
  }

  /** False: there is no point in going on. */
  async #expectReply(message: RecordedMessage): Promise<boolean> {
    const header = message.header!;
    const find = (): number => this.#replies.findIndex((frame) => frame.id === header.id && frame.command === header.command);
    if (!(await this.#until(() => find() >= 0))) return this.#missing(message, 'the server does not answer');
    const [frame] = this.#replies.splice(find(), 1);
    this.#heldBytes -= frame!.payload.length;
    this.#heldFds -= frame!.fds.length;
    const fds = frame!.fds.map((fd) => this.#descriptors.describe(fd));
    for (const fd of frame!.fds) this.#sys.close(fd);
    this.#compared++;
    const what = compareReplies(message, frame!, fds, this.#options.ignored ?? []);
    if (what.length > 0) this.#differences.push({ message, what });
    return true;
  }

  async #expectCommand(message: RecordedMessage): Promise<boolean> {
    if (!(await this.#until(() => !this.#awaited.has(message)))) {
      this.#awaited.delete(message);
      return this.#missing(message, 'the server does not send it');
    }
    return true;
  }

  #missing(message: RecordedMessage, what: string): boolean {
    this.#differences.push({ message, what: this.#ended ?? what });
    return this.#ended === undefined;
  }

  /** False: not before the time is up or the server is gone. */
  async #until(condition: () => boolean): Promise<boolean> {
    const timeoutMs = this.#options.timeoutMs ?? 5000;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#wake();
    }, timeoutMs);
    try {
      while (!condition()) {
        if (late || this.#ended !== undefined) return false;
        await new Promise<void>((resolve) => { this.#wake = resolve; });
      }
      return true;
    } finally {
      clearTimeout(timer);
    }
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function pause(ms: number): Promise<void> | undefined {
  return ms <= 0 ? undefined : new Promise((resolve) => { setTimeout(resolve, ms); });
}
