import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';

/** Aliases whose number has a more usual name. */
const ALIASES = new Set(['EWOULDBLOCK', 'EDEADLOCK', 'ENOTSUP']);

/** Every errno of this system by name, e.g. `ERRNO.ENOENT === 2`. */
export const ERRNO: Readonly<Record<string, number>> = Object.freeze({ ...koffi.os.errno });

const NAMES = new Map(Object.entries(ERRNO).filter(([name]) => !ALIASES.has(name)).map(([name, number]) => [number, name]));

/** 'ENOENT' of 2; 'ERRNO_n' of a number this system does not name. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `ERRNO_${errno}`;
}

/** 2 of 'ENOENT'; throws a RangeError for a name this system does not have. */
export function errnoNumber(name: string): number {
  const errno = ERRNO[name];
  if (errno === undefined) throw new RangeError(`no errno is called '${name}'`);
  return errno;
}

/** A failed system call. `code` is the errno's name, `syscall` the call's, the message says what was attempted on what. */
export class LinuxError extends Error {
  override readonly name = 'LinuxError';
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  /** `attempted` completes "syscall(…)", e.g. the path or descriptor; `hint` says what to do about it. */
  constructor(errno: number, syscall: string, attempted = '', hint = '') {
    const code = errnoName(errno);
    const text = getSystemErrorMap().get(-errno)?.[1];
    super(`${syscall}(${attempted}): ${code}${text === undefined ? '' : `, ${text}`}${hint === '' ? '' : ` – ${hint}`}`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}
