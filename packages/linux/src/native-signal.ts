/**
 * The kernel's own way to signal an eventfd, which never sleeps: at the brim the counter stays there. Native AIO gives access to it
 * (IOCB_FLAG_RESFD, include/uapi/linux/aio_abi.h): when a request completes, the kernel signals the eventfd that it names. The
 * request is a read of no bytes from that same eventfd, which completes at once (refused: an eventfd is read by eight bytes).
 */
import { isMainThread } from 'node:worker_threads';
import { close } from './files.ts';
import { EAGAIN, SYSCALLS_AIO, addressOf, errno, libc } from './libc.ts';
import { AIO_COMPLETIONS } from './limits.ts';

/* struct iocb, 64 bytes, in words: file at 5, flags at 14, the eventfd to signal at 15. Opcode 0 is IOCB_CMD_PREAD. */
const FILE = 5;
const FLAGS = 14;
const RESFD = 15;
const IOCB_FLAG_RESFD = 1;
const EVENT_BYTES = 32;
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

export class NativeSignal {
  readonly #context: bigint | number;
  readonly #iocb = new Int32Array(new ArrayBuffer(64));
  readonly #iocbs = new BigUint64Array(new ArrayBuffer(8));
  readonly #completed = new Uint8Array(new ArrayBuffer(EVENT_BYTES * AIO_COMPLETIONS));
  /** Completions that lie in the context's ring, which has room for AIO_COMPLETIONS at least. */
  #unread = 0;

  private constructor(context: bigint) {
    // A user-space address below 2^53 as a plain number: koffi takes that without an allocation.
    this.#context = Number(context);
    this.#iocb[FLAGS] = IOCB_FLAG_RESFD;
    this.#iocbs[0] = addressOf(this.#iocb);
  }

  /** null where there is no AIO (kernel, seccomp, fs.aio-max-nr), or it does not signal as described (Linux before 5.8). */
  static open(): NativeSignal | null {
    const made = new BigUint64Array(new ArrayBuffer(8));
    if (libc.aioSetup(SYSCALLS_AIO.setup, AIO_COMPLETIONS, made) < 0) return null;
    const native = new NativeSignal(made[0]!);
    // A context belongs to the process; of the main thread's the kernel disposes.
    if (!isMainThread) process.once('exit', () => { native.#destroy(); });
    if (native.#works()) return native;
    native.#destroy();
    return null;
  }

  /** False where `fd` is no eventfd. */
  signal(fd: number): boolean {
    if (this.#unread === AIO_COMPLETIONS) this.#reap();
    this.#iocb[FILE] = fd;
    this.#iocb[RESFD] = fd;
    while (libc.aioSubmit(SYSCALLS_AIO.submit, this.#context, 1, this.#iocbs) !== 1) {
      if (errno() !== EAGAIN || this.#unread === 0) return false;
      this.#reap();
    }
    this.#unread++;
    return true;
  }

  #works(): boolean {
    const fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) return false;
    const seen = new BigUint64Array(new ArrayBuffer(8));
    const works = this.signal(fd) && libc.read(fd, seen, 8) === 8 && seen[0] === 1n;
    close(fd);
    return works;
  }

  #reap(): void {
    libc.aioGetEvents(SYSCALLS_AIO.getEvents, this.#context, 0, AIO_COMPLETIONS, this.#completed, null);
    this.#unread = 0;
  }

  #destroy(): void {
    libc.aioDestroy(SYSCALLS_AIO.destroy, this.#context);
  }
}
