import { constants, openSync } from 'node:fs';
import { isatty } from 'node:tty';
import { OwnedFd, S_IFMT, S_IFREG, type Sys } from '@emudev/linux';
import { EscapeParser } from './escape.ts';
import type { FarEnd, FarEndEvents } from './far-end.ts';
import { FdStream } from './fd-stream.ts';

/** Whose input and output; those of this process by default. */
export interface StdioOptions {
  readonly sys: Sys;
  readonly input?: number;
  readonly output?: number;
  /** Ctrl-A X; SIGTERM to this process by default, so that it ends as it does otherwise. */
  readonly quit?: () => void;
}

const S_IFIFO = 0o010000;
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
const HELP = '\r\nCtrl-A X ends this program, Ctrl-A B sends a break, Ctrl-A Ctrl-A sends Ctrl-A\r\n';

/**
 * Standard input and output of this process. A terminal is raw as long, has the escape character, and is as before at every exit but a
 * SIGKILL. Anything else (a pipe, a file) is bytes and nothing else.
 */
export class StdioFarEnd implements FarEnd {
  readonly place = 'standard input and output';
  readonly ownsStdio = true;
  readonly #stream: FdStream;
  readonly #restore: Disposable | undefined;
  readonly #files: readonly Disposable[];
  readonly #events: FarEndEvents;
  #closed = false;

  constructor(options: StdioOptions, events: FarEndEvents) {
    const { sys, input = 0, output = 1 } = options;
    const terminal = isatty(input);
    this.#events = events;
    const [from, to] = [ownNonBlocking(sys, input, constants.O_RDONLY), ownNonBlocking(sys, output, constants.O_WRONLY)];
    this.#files = [from, to];
    const parser = new EscapeParser({
      data: (bytes) => { events.data(bytes); },
      quit: options.quit ?? (() => { process.kill(process.pid, 'SIGTERM'); }),
      break: () => { events.break(); },
      help: () => { this.write(Buffer.from(HELP)); },
    });
    this.#stream = new FdStream({
      sys, input: from.fd, output: to.fd,
      data: (bytes) => {
        if (terminal) parser.feed(bytes);
        else events.data(bytes);
      },
      writable: () => { events.writable(); },
      end: (error, of) => { this.#ended(error, of); },
    });
    this.#restore = terminal ? rawUntilDisposed(sys, input) : undefined;
    // Behind the constructor: the back end has nothing to be called with yet.
    queueMicrotask(() => { if (!this.#closed) events.present(true); });
  }

  write(bytes: Uint8Array): number {
    return this.#stream.write(bytes);
  }

  setReading(on: boolean): void {
    this.#stream.setReading(on);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream[Symbol.dispose]();
    this.#restore?.[Symbol.dispose]();
    for (const file of this.#files) file[Symbol.dispose]();
  }

  /** The end of the input is the end of what comes; what the guest writes is still wanted. */
  #ended(error: unknown, of: 'input' | 'output'): void {
    if (error !== undefined) this.#events.report('failed', `${of === 'input' ? 'standard input' : 'standard output'}: ${error instanceof Error ? error.message : 'ended'}`);
    if (of === 'output') this.#events.present(false);
  }
}

/**
 * A descriptor of our own for the same file that does not block. O_NONBLOCK belongs to the open file, which the shell and other programs
 * share: terminals and pipes are opened again, sockets are set back at the end, and a plain file, which has its place in the file from
 * whoever opened it, never blocks.
 */
function ownNonBlocking(sys: Sys, fd: number, access: number): Disposable & { readonly fd: number } {
  const kind = sys.fstat(fd).mode & S_IFMT;
  try {
    if (kind === S_IFIFO || isatty(fd)) return new OwnedFd(openSync(`/proc/self/fd/${fd}`, access | constants.O_NONBLOCK | constants.O_NOCTTY), sys);
  } catch {
    // A terminal of another user, a pipe that nobody reads: shared.
  }
  const own = new OwnedFd(sys.dup(fd), sys);
  if (kind === S_IFREG) return own;
  sys.setNonBlocking(own.fd, true);
  return {
    fd: own.fd,
    [Symbol.dispose]: () => {
      sys.setNonBlocking(own.fd, false);
      own.close();
    },
  };
}

function rawUntilDisposed(sys: Sys, fd: number): Disposable {
  // Lines that others print still begin at the left.
  const settings = sys.ttySetRaw(fd, { processOutput: true });
  const restore = (): void => {
    process.off('exit', restore);
    for (const signal of SIGNALS) process.off(signal, onSignal);
    try {
      sys.ttyRestore(fd, settings);
    } catch {
      // The terminal has gone, and its settings with it.
    }
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (process.listenerCount(signal) > 1) return; // Somebody ends the process in an orderly way, or does not want to.
    restore();
    process.kill(process.pid, signal);
  };
  process.on('exit', restore);
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return { [Symbol.dispose]: restore };
}
