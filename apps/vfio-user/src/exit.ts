/** How a command ends: its exit code, and one sentence on stderr. */
import { ClientError } from '@emudev/vfio-user-client';
import { printable } from './printable.ts';

export const EXIT_OK = 0;
/** The device (or its server) said no, or broke the protocol. */
export const EXIT_DEVICE = 1;
/** The command line makes no sense, or a local file cannot be read or written. */
export const EXIT_USAGE = 2;
/** Nobody to talk to: no server listens, or it does not answer. */
export const EXIT_CONNECT = 3;

export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number;
  constructor(exitCode: number, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** A wrong command line. */
export function usage(message: string): CommandError {
  return new CommandError(EXIT_USAGE, message);
}

/** `read` with a file that the command line names: what goes wrong is said with its name, also where the system call has only a descriptor. */
export function withFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Error && 'syscall' in error && !('path' in error)) Object.assign(error, { path });
    throw error;
  }
}

/** The exit code and the sentence for anything a command threw. */
export function explain(error: unknown): { readonly exitCode: number; readonly message: string } {
  const text = printable((error instanceof Error ? error.message : String(error)).split('\n')[0]!);
  if (error instanceof CommandError) return { exitCode: error.exitCode, message: text };
  if (error instanceof ClientError) {
    const exitCode = error.code === 'ERR_VFU_CLIENT_CONNECT' ? EXIT_CONNECT : error.code === 'ERR_VFU_CLIENT_ARGUMENT' ? EXIT_USAGE : EXIT_DEVICE;
    return { exitCode, message: text };
  }
  // A system call on a file that the command line names.
  if (error instanceof Error && 'syscall' in error && 'path' in error) {
    const reason = /^\w+: (.*), \w+(?: '|$)/.exec(text)?.[1] ?? text;
    return { exitCode: EXIT_USAGE, message: `${printable(String(error.path))}: ${reason}` };
  }
  return { exitCode: EXIT_DEVICE, message: text };
}
