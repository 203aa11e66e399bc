import { lstatSync, readlinkSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { LinuxError, OwnedFd, type Sys } from '@emudev/linux';
import type { FarEnd, FarEndEvents } from './far-end.ts';
import { FdStream } from './fd-stream.ts';
import { PTY_POLL_MS } from './limits.ts';

/** Slaves of this process: links to them are in use. */
const slaves = new Set<string>();

/**
 * A pseudo terminal in raw mode: whoever opens its slave is the far end. It stays, under the same name, while nobody has it open.
 *
 * | slave  | master reads       | we                                                    |
 * | ------ | ------------------ | ----------------------------------------------------- |
 * | open   | bytes, EAGAIN      | watch the descriptor                                  |
 * | closed | the rest, then EIO | look every PTY_POLL_MS whether it is open again       |
 */
export class PtyFarEnd implements FarEnd {
  readonly place: string;
  readonly #sys: Sys;
  readonly #events: FarEndEvents;
  readonly #link: string | undefined;
  readonly #slavePath: string;
  readonly #master: OwnedFd;
  readonly #stream: FdStream;
  #present = false;
  /** Wanted by the back end; a master without slave and bytes is not watched, it would always be ready. */
  #reading = false;
  #drained = true;
  #timer: NodeJS.Timeout | undefined;

  /** @throws LinuxError, or what making the link failed with */
  constructor(options: { readonly sys: Sys; readonly link?: string | undefined }, events: FarEndEvents) {
    const { sys, link } = options;
    const { master, path } = sys.ptyOpen();
    this.#sys = sys;
    this.#events = events;
    this.#master = new OwnedFd(master, sys);
    this.#slavePath = path;
    this.#link = link;
    this.place = link ?? path;
    try {
      sys.ttySetRaw(master);
      // A slave that was never open counts as open: from now on a hang-up tells.
      sys.close(sys.ptyOpenSlave(master));
      if (link !== undefined) placeLink(path, link);
    } catch (error) {
      this.#master.close();
      throw error;
    }
    slaves.add(path);
    this.#stream = new FdStream({
      sys, input: master, output: master,
      data: (bytes) => { events.data(bytes); },
      writable: () => { events.writable(); },
      end: (error) => { this.#hungUp(error); },
    });
    this.#lookAgain();
  }

  write(bytes: Uint8Array): number {
    return this.#present ? this.#stream.write(bytes) : 0;
  }

  setReading(on: boolean): void {
    this.#reading = on;
    this.#stream.setReading(on && !this.#drained);
    this.#lookAgain();
  }

  close(): void {
    if (this.#master.closed) return;
    clearTimeout(this.#timer);
    this.#stream[Symbol.dispose]();
    this.#master.close();
    slaves.delete(this.#slavePath);
    if (this.#link !== undefined) removeLink(this.#slavePath, this.#link);
  }

  /** EIO: no slave is open, and all it has sent is read. */
  #hungUp(error: unknown): void {
    if (!(error instanceof LinuxError) || error.code !== 'EIO') this.#events.report('failed', `${this.place}: ${error instanceof Error ? error.message : 'ended'}`);
    this.#drained = true;
    this.#stream.setReading(false);
    this.#setPresent(false);
    this.#lookAgain();
  }

  #setPresent(present: boolean): void {
    if (present === this.#present) return;
    this.#present = present;
    if (present) {
      this.#drained = false;
      this.#stream.setReading(this.#reading);
    } else {
      // Who left it cooked does not spoil it for the next one.
      try {
        this.#sys.ttySetRaw(this.#master.fd);
      } catch (error) {
        this.#events.report('failed', `${this.place}: ${String(error)}`);
      }
    }
    this.#events.present(present);
  }

  /** Needed while the descriptor is not watched. */
  #lookAgain(): void {
    if (this.#timer !== undefined || this.#master.closed || (this.#present && this.#reading)) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const hungUp = this.#sys.isHungUp(this.#master.fd);
      this.#setPresent(!hungUp);
      if (hungUp && this.#reading) {
        // Somebody may have been there in between, and have left something.
        this.#drained = false;
        this.#stream.setReading(true);
      }
      this.#lookAgain();
    }, PTY_POLL_MS);
    this.#timer.unref();
  }
}

/** Replaces a link to a terminal that an earlier process has left; anything else at its place is EEXIST. */
function placeLink(target: string, link: string): void {
  const there = lstatSync(link, { throwIfNoEntry: false });
  if (there === undefined) {
    symlinkSync(target, link);
    return;
  }
  const before = there.isSymbolicLink() ? readlinkSync(link) : '';
  if (!before.startsWith('/dev/pts/') || slaves.has(before)) {
    const what = slaves.has(before) ? 'a link to another terminal of this process is there' : 'something else is there already; only a link to a pseudo terminal is replaced';
    throw Object.assign(new Error(`link=${link}: ${what}`), { code: 'EEXIST' });
  }
  const fresh = `${link}.${process.pid}`;
  symlinkSync(target, fresh);
  renameSync(fresh, link);
}

function removeLink(target: string, link: string): void {
  try {
    if (readlinkSync(link) === target) unlinkSync(link);
  } catch {
    // Somebody has taken it away: it is as gone as it should be.
  }
}
