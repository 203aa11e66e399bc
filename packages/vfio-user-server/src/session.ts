/**
 * One client, from connect to detach. Strictly serial: a command is taken from the queue when the one before it is answered.
 *
 * | state       | VERSION                    | other command           | reply          | connection ends        | close()                |
 * | ----------- | -------------------------- | ----------------------- | -------------- | ---------------------- | ---------------------- |
 * | negotiating | attach → ready, or → ended | EINVAL, → ended         | counted        | → ended                | → ended                |
 * | ready       | EINVAL                     | executed                | to its waiter  | → ending               | → ending               |
 * | ending      | forbidden: the socket is closed | forbidden          | forbidden      | forbidden              | waits for the same end |
 * | ended       | forbidden: the socket is closed | forbidden          | forbidden      | forbidden              | nothing                |
 *
 * ending: the socket is closed at once, so nothing more arrives; the running command finishes (its DMA messages fail), then quiesce, device.detach, DMA table cleared, interrupt
 * descriptors closed, resume. A session that never became ready skips all that: the device has not heard of it. A device that
 * does not become quiescent is asked again until it does: the next client waits, because memory and descriptors are in use.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { SpinOptions, Sys } from '@emudev/linux';
import { IRQ_INTX, type DetachReason, type PciDevice, type PciHost, type QuiesceReason } from '@emudev/pci';
import {
  commandName, decodeVersion, effectiveCapabilities, encodeMessage, encodeVersion, guessPeer, HEADER_BYTES, isCommand, isPosted, isReply,
  MAX_FRAME_BYTES, MAX_VERSION_FRAME_BYTES, negotiateVersion, newMessage, ProtocolError, VFIO_USER_F_TYPE_REPLY, VFIO_USER_MAJOR, VFIO_USER_VERSION,
  type DmaDialect, type EffectiveCapabilities, type Frame, type FrameLimits, type PeerProfile,
} from '@emudev/vfio-user-protocol';
import type { RemoteMemory } from '@emudev/dma';
import { CommandQueue } from './command-queue.ts';
import { errorReply, execute, type CommandContext, type Reply } from './commands.ts';
import { Connection } from './connection.ts';
import { DmaMessages } from './dma-messages.ts';
import type { DmaTable } from './dma-table.ts';
import { replyErrnoOf, typedErrno, VfioUserServerError, type DisconnectReason } from './errors.ts';
import { publish } from './events.ts';
import { checkPageSize, type DeviceMigration } from './migration.ts';
import { ANNOUNCED_MSG_FDS, MAX_FDS_PER_MESSAGE, QUIESCE_ATTEMPTS_ON_CLOSE, QUIESCE_RETRY_MS, type ServerLimits } from './limits.ts';
import type { Regions } from './regions.ts';
import { MaskEventfds } from './mask-eventfds.ts';
import { setMasks } from './set-irqs.ts';
import { openTwin, wantsTwin } from './twin-socket.ts';
import { Vectors } from './vectors.ts';

/** Before VERSION, serving, on its way out, and gone. */
export type SessionState = 'negotiating' | 'ready' | 'ending' | 'ended';

/** What an application may see of a session. */
export interface SessionView {
  /** Counts connections of one server, from 1. */
  readonly id: number;
  readonly state: SessionState;
  /** Known once negotiated. */
  readonly peer: PeerProfile | undefined;
  readonly capabilities: EffectiveCapabilities | undefined;
  readonly counters: Readonly<SessionCounters>;
  /** Regions in the DMA table. */
  readonly dmaMaps: number;
}

/** Counted from the start of the session. */
export interface SessionCounters {
  /** Commands executed, refused ones included. */
  commands: number;
  /** Commands that failed. */
  errors: number;
  /** Of these, errors without an errno: defects, answered EIO. */
  unexpectedErrors: number;
  /** Replies nobody waited for. */
  strayReplies: number;
}

export interface SessionOptions {
  readonly id: number;
  readonly sys: Sys;
  readonly device: PciDevice;
  readonly regions: Regions;
  readonly dma: DmaTable;
  readonly migration: DeviceMigration | undefined;
  readonly limits: ServerLimits;
  readonly peer: PeerProfile | undefined;
  readonly dmaDialect: 'auto' | DmaDialect;
  /** Whether a client that asks for one gets a socket of its own for DMA messages. */
  readonly twinSocket: boolean;
  readonly spin: SpinOptions | undefined;
  onReady(): void;
  /** Everything is released; the next client may come. */
  onEnded(reason: DisconnectReason): void;
}

const DETACH_REASONS: Readonly<Record<DisconnectReason, DetachReason>> = {
  closed: 'closed',
  'connection-lost': 'connection-lost',
  'negotiation-failed': 'protocol-error',
  'negotiation-timeout': 'protocol-error',
  'protocol-error': 'protocol-error',
  'quiesce-failed': 'protocol-error',
  'server-closed': 'server-closed',
};

const EINVAL = 22;
const EBUSY = 16;

export class Session implements SessionView, CommandContext, PciHost {
  readonly id: number;
  readonly device: PciDevice;
  readonly regions: Regions;
  readonly sys: Sys;
  readonly vectors: Vectors;
  readonly maskEventfds: MaskEventfds;
  readonly dma: DmaTable;
  readonly migration: DeviceMigration | undefined;
  readonly counters: SessionCounters = { commands: 0, errors: 0, unexpectedErrors: 0, strayReplies: 0 };
  /** Resolves when the session has ended. */
  readonly ended: Promise<void>;
  state: SessionState = 'negotiating';
  peer: PeerProfile | undefined;
  capabilities: EffectiveCapabilities | undefined;
  messages: RemoteMemory | undefined;

  readonly #options: SessionOptions;
  readonly #connection: Connection;
  readonly #dmaMessages: DmaMessages;
  /** Where DMA messages go once the client has been given one. */
  #twin: Connection | undefined;
  readonly #negotiationTimer: NodeJS.Timeout;
  readonly #resolveEnded: () => void;
  readonly #queue: CommandQueue;
  #attached = false;
  #finishing = false;
  #quiescent = true;
  /** The server is being closed: nobody waits for a stuck device. */
  #hurried = false;
  #departureTimer: NodeJS.Timeout | undefined;
  #endReason: DisconnectReason = 'closed';
  #endError: unknown;

  /** Owns `fd` from now on. */
  constructor(fd: number, options: SessionOptions) {
    const { sys, device, limits } = options;
    this.#options = options;
    this.id = options.id;
    this.device = device;
    this.regions = options.regions;
    this.dma = options.dma;
    this.migration = options.migration;
    this.sys = sys;
    this.vectors = new Vectors(sys, device.irqs);
    this.maskEventfds = new MaskEventfds(sys, (action, index, vector) => {
      if (this.vectors.masked(index, vector) === (action === 'mask')) {
        // What the device was told already; only the level of INTx may have something new to say.
        if (action === 'unmask' && index === IRQ_INTX) this.vectors.unmaskLevel();
        return undefined;
      }
      return this.#betweenCommands(() => setMasks(this, action, index, [vector]));
    }, (error) => { this.report('watching an eventfd that masks', error); });
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.ended = promise;
    this.#resolveEnded = () => { resolve(undefined); };
    publish('connect', { device: device.name, session: this.id });
    this.#dmaMessages = new DmaMessages((message) => {
      (this.#twin ?? this.#connection).send(message);
      this.#queue.regulate();
    }, limits.dmaReplyTimeoutMs);
    this.#queue = this.#newQueue();
    const isBusy = (): boolean => this.#queue.busy;
    // VERSION is small and comes without descriptors; everything else has to wait for it.
    this.#connection = new Connection(sys, fd, { maxFrameBytes: MAX_VERSION_FRAME_BYTES, maxFds: 0 }, {
      onTurn: () => { this.#queue.beginTurn(); },
      onFrame: (frame) => { this.#onFrame(frame); },
      onDrained: () => { this.#queue.drained(); },
      onEnd: (reason, error) => { this.#end(this.state === 'negotiating' && reason === 'protocol-error' ? 'negotiation-failed' : reason, error); },
      get awaiting() { return isBusy(); },
    }, { messageTimeoutMs: limits.messageTimeoutMs, spin: options.spin });
    this.#negotiationTimer = setTimeout(() => {
      this.#end('negotiation-timeout', new VfioUserServerError('ERR_SERVER_STATE', 110, `no VERSION within ${limits.negotiationTimeoutMs} ms`));
    }, limits.negotiationTimeoutMs);
  }

  get dmaMaps(): number {
    return this.dma.size;
  }

  get maxDataXferBytes(): number {
    return this.#options.limits.maxDataXferBytes;
  }

  // PciHost
  get memory(): PciHost['memory'] {
    return this.dma.memory;
  }

  get dmaMessages(): PciHost['dmaMessages'] {
    return this.messages;
  }

  irqFd(index: number, vector: number): number {
    return this.vectors.fd(index, vector);
  }

  trigger(index: number, vector: number): boolean {
    return this.vectors.trigger(index, vector);
  }

  setIntx(asserted: boolean): void {
    this.vectors.setIntx(asserted);
  }

  /** Within a command (the configuration write that asks for it) at once; else no command may begin before it is done. */
  functionLevelReset(): Promise<void> {
    return this.#queue.busy ? this.reset('flr') : this.#betweenCommands(() => this.reset('flr'));
  }

  report(what: string, error?: unknown): void {
    publish('fault', { device: this.device.name, session: this.id, what, ...(error === undefined ? {} : { error }) });
  }

  reset(reason: 'reset' | 'flr'): Promise<void> {
    return this.whileQuiesced(reason, () => {
      this.vectors.clearPending();
      return this.device.reset();
    });
  }

  async whileQuiesced(reason: QuiesceReason, change: () => void | Promise<void>): Promise<void> {
    try {
      await this.device.quiesce(reason);
    } catch (cause) {
      throw new VfioUserServerError('ERR_SERVER_QUIESCE', typedErrno(cause) ?? EBUSY, `${this.device.name} did not become quiescent for ${reason}`, { cause });
    }
    try {
      // The device took longer than anybody waited: what this change was for is released, or the next client's.
      if (this.#finishing) throw new VfioUserServerError('ERR_SERVER_STATE', EBUSY, 'the session has ended');
      await change();
    } finally {
      this.device.resume();
    }
  }

  /** Ends the session; resolves when everything is released, to false if something had to stay because the device did not become quiescent. */
  async close(): Promise<boolean> {
    this.#hurried = true;
    this.#end('server-closed');
    await this.ended;
    return this.#quiescent;
  }

  #onFrame(frame: Frame): void {
    if (isReply(frame.flags)) this.#onReply(frame);
    else this.#queue.push(frame);
  }

  #onReply(frame: Frame): void {
    // A late reply looks like one that was never asked for: neither gets an answer.
    if (!this.#dmaMessages.onReply(frame)) {
      this.counters.strayReplies++;
      // CLIENT: once, or it could fill somebody's log. The counter has them all.
      if (this.counters.strayReplies === 1) this.report(`a reply to ${commandName(frame.command)} that nobody waits for`);
    }
    this.#closeFds(frame.fds);
  }

  #newQueue(): CommandQueue {
    const connection = (): Connection => this.#connection;
    const waitsForReply = (): boolean => this.#twin === undefined && this.#dmaMessages.outstanding > 0;
    return new CommandQueue(this.#options.limits, {
      get pendingOutputBytes() { return connection().pendingOutputBytes; },
      get pendingOutputFds() { return connection().pendingOutputFds; },
      get waitsForReply() { return waitsForReply(); },
      dispatch: (frame) => this.#dispatch(frame),
      pauseInput: (paused) => { connection().pauseInput(paused); },
      onIdle: () => { if (this.state === 'ending') void this.#finish(); },
      onFlood: () => { this.#end('protocol-error', new VfioUserServerError('ERR_SERVER_DMA_MESSAGE', EBUSY, 'the client sends commands instead of answering a DMA message')); },
    });
  }

  /** Like a command, but nobody waits for a reply. Not at all if the session ends before; never rejects. */
  #betweenCommands(work: () => void | Promise<void>): Promise<void> {
    return this.#queue.between(async () => {
      try {
        await work();
      } catch (error) {
        this.report('a mask by eventfd, or a reset of its own', error);
        if (error instanceof VfioUserServerError && error.code === 'ERR_SERVER_QUIESCE') this.#end('quiesce-failed', error);
      }
    });
  }

  /** Never throws, never rejects; undefined when the command is done already. */
  #dispatch(frame: Frame): Promise<void> | undefined {
    const fds = [...frame.fds];
    this.counters.commands++;
    let outcome: Reply | Promise<Reply>;
    try {
      outcome = this.#execute(frame, fds);
    } catch (error) {
      this.#fail(frame, error);
      this.#closeFds(fds);
      return undefined;
    }
    if (!(outcome instanceof Promise)) {
      this.#reply(frame, outcome);
      this.#closeFds(fds);
      return undefined;
    }
    return outcome.then((reply) => { this.#reply(frame, reply); }, (error: unknown) => { this.#fail(frame, error); }).then(() => { this.#closeFds(fds); });
  }

  #execute(frame: Frame, fds: number[]): Reply | Promise<Reply> {
    if (!isCommand(frame.flags)) throw new ProtocolError('ERR_VFU_TYPE', EINVAL, 'reply', `message type ${frame.flags & 15} is neither command nor reply`);
    if (this.state === 'negotiating') return this.#negotiate(frame, fds);
    return execute(this, frame, fds);
  }

  async #negotiate(frame: Frame, fds: number[]): Promise<Reply> {
    if (frame.command !== VFIO_USER_VERSION) throw new ProtocolError('ERR_VFU_VERSION', EINVAL, 'close', `${commandName(frame.command)} before VERSION`);
    const { limits, dmaDialect, peer } = this.#options;
    const version = decodeVersion(frame.payload);
    const profile = peer ?? guessPeer(version);
    const minor = Math.min(negotiateVersion(version), profile.maxMinor);
    const capabilities = effectiveCapabilities(version.capabilities);
    if (this.migration !== undefined) checkPageSize(capabilities.migration?.pgsize);
    const dialect = dmaDialect === 'auto' ? profile.dmaDialect : dmaDialect;
    clearTimeout(this.#negotiationTimer);
    this.peer = profile;
    this.capabilities = capabilities;
    this.#dmaMessages.maxBytes = capabilities.maxDataXferSize;
    if (dialect !== undefined) {
      this.#dmaMessages.dialect = dialect;
      // QEMUs of both kinds introduce themselves alike.
      this.#dmaMessages.isGuess = dmaDialect === 'auto' && dialect === 'qemu';
      this.messages = this.#dmaMessages;
    }
    this.#attached = true;
    try {
      await this.device.attach(this);
    } catch (error) {
      // Nothing to detach from, and nobody to serve.
      this.#attached = false;
      throw new ProtocolError('ERR_VFU_VERSION', replyErrnoOf(error), 'close', `${this.device.name} refused to attach: ${String(error)}`);
    }
    // The client may have left meanwhile; the device is detached again.
    if (this.state !== 'negotiating') return newMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, 0);
    this.state = 'ready';
    const frameLimits = { maxFrameBytes: Math.max(MAX_FRAME_BYTES, HEADER_BYTES + 16 + limits.maxDataXferBytes), maxFds: MAX_FDS_PER_MESSAGE };
    this.#connection.limits = frameLimits;
    const twin = this.#options.twinSocket && wantsTwin(capabilities) ? this.#openTwin(frameLimits) : undefined;
    // Closed with the descriptors of the command, once the reply has taken a copy along.
    if (twin !== undefined) fds.push(twin);
    publish('negotiated', { device: this.device.name, session: this.id, peer: profile.name, minor, capabilities, dmaDialect: dialect ?? 'none' });
    this.#options.onReady();
    // QEMU allows no more than its own 214 bytes.
    const message = encodeMessage(frame.id, frame.command, VFIO_USER_F_TYPE_REPLY, encodeVersion({
      major: VFIO_USER_MAJOR, minor,
      capabilities: { maxMsgFds: ANNOUNCED_MSG_FDS, maxDataXferSize: limits.maxDataXferBytes, maxDmaMaps: limits.maxDmaMaps, pgsizes: 4096, ...(profile.takesWriteMultiple ? { writeMultiple: true } : {}), ...(this.migration === undefined ? {} : { migration: { pgsize: 4096 } }), ...(twin === undefined ? {} : { twinSocket: { supported: true, fdIndex: 0 } }) },
    }));
    return twin === undefined ? message : { message, fds: [twin] };
  }

  /** The client's end; undefined where there are no descriptors for it: the main socket does. */
  #openTwin(frameLimits: FrameLimits): number | undefined {
    const { sys, limits, spin } = this.#options;
    const isBusy = (): boolean => this.#queue.busy;
    try {
      const { connection, theirs } = openTwin(sys, frameLimits, {
        onReply: (frame) => { this.#onReply(frame); },
        onEnd: (reason, error) => { this.#end(reason, error); },
        get awaiting() { return isBusy(); },
      }, { messageTimeoutMs: limits.messageTimeoutMs, spin });
      this.#twin = connection;
      return theirs;
    } catch (error) {
      this.report('opening a twin socket', error);
      return undefined;
    }
  }

  #reply(frame: Frame, reply: Reply): void {
    if (isPosted(frame.flags)) return;
    if (reply instanceof Uint8Array) this.#connection.send(reply);
    else this.#connection.send(reply.message, reply.fds);
  }

  /** Reply (or not), count, tell; and end the session where the error says so. */
  #fail(frame: Frame, error: unknown): void {
    const errno = replyErrnoOf(error);
    const unexpected = typedErrno(error) === undefined;
    this.counters.errors++;
    if (unexpected) this.counters.unexpectedErrors++;
    publish('request-error', { device: this.device.name, session: this.id, command: commandName(frame.command), messageId: frame.id, errno, unexpected, error });
    if (!isPosted(frame.flags)) this.#connection.send(errorReply(frame, errno, this.peer?.headerOnlyErrors === false ? this.maxDataXferBytes : undefined));
    if (error instanceof ProtocolError && error.consequence === 'close') this.#end(this.state === 'negotiating' ? 'negotiation-failed' : 'protocol-error', error);
    else if (error instanceof VfioUserServerError && error.code === 'ERR_SERVER_QUIESCE') this.#end('quiesce-failed', error);
  }

  #end(reason: DisconnectReason, error?: unknown): void {
    if (this.state === 'ending' || this.state === 'ended') return;
    this.state = 'ending';
    this.#endReason = reason;
    this.#endError = error;
    clearTimeout(this.#negotiationTimer);
    this.#connection.close();
    this.#twin?.close();
    this.#dmaMessages.close();
    this.#closeFds(this.#queue.close());
    this.maskEventfds.close();
    if (!this.#queue.busy) return void this.#finish();
    this.#departureTimer = setTimeout(() => {
      this.report(`a command that does not end: its client left ${this.#options.limits.departureTimeoutMs} ms ago`);
      void this.#finish();
    }, this.#options.limits.departureTimeoutMs);
  }

  /** When no command is running any more, or one has been given up. Never rejects: whatever the device does, the client's things are released. */
  async #finish(): Promise<void> {
    if (this.#finishing) return;
    this.#finishing = true;
    clearTimeout(this.#departureTimer);
    const reason = this.#endReason;
    if (this.#attached) {
      this.#quiescent = await this.#quiesceForGood();
      await this.#guarded('detach', () => this.device.detach(DETACH_REASONS[reason]));
      await this.#guarded('leaving the migration state', () => this.#abandonMigration());
    }
    this.dma.memory.dirtyLog.stop();
    if (this.#quiescent) {
      await this.#guarded('clearing the DMA table', () => { this.dma.clear(); });
      await this.#guarded('closing interrupts', () => { this.vectors.close(); });
    }
    if (this.#attached) await this.#guarded('resume', () => { this.device.resume(); });
    this.state = 'ended';
    publish('disconnect', { device: this.device.name, session: this.id, reason, ...(this.#endError === undefined ? {} : { error: this.#endError }) });
    this.#options.onEnded(reason);
    this.#resolveEnded();
  }

  /** The next client finds the device in `running`. A hop or a piece of state that this one left behind is not waited for: the device is taken back when it ends. */
  async #abandonMigration(): Promise<void> {
    const { migration } = this;
    if (migration === undefined) return;
    const { busy } = migration;
    const done = migration.abandon();
    if (!busy) return done;
    void this.#guarded('leaving the migration state', () => done);
  }

  /** Nothing may be unmapped or closed under a running burst. False only where the server cannot wait any longer. */
  async #quiesceForGood(): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.device.quiesce('detach');
        return true;
      } catch (error) {
        this.report('quiesce', error);
      }
      if (this.#hurried && attempt >= QUIESCE_ATTEMPTS_ON_CLOSE) return false;
      await delay(QUIESCE_RETRY_MS);
    }
  }

  async #guarded(what: string, step: () => void | Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.report(what, error);
    }
  }

  #closeFds(fds: readonly number[]): void {
    for (const fd of fds) this.#options.sys.close(fd);
  }
}
