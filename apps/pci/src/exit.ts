/** How a command ends: its exit code, and one sentence on stderr. */
import { BusError } from '@emudev/bus-pci';
import { printable } from './printable.ts';

export const EXIT_OK = 0;
/** The kernel, or the device, said no. */
export const EXIT_REFUSED = 1;
/** The command line makes no sense. */
export const EXIT_USAGE = 2;
/** There is no such device, parent or type. */
export const EXIT_ABSENT = 3;

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

const USAGE: ReadonlySet<string> = new Set(['ERR_BUS_ADDRESS', 'ERR_BUS_SELECTION', 'ERR_BUS_ARGUMENT', 'ERR_BUS_MDEV_BAD_UUID']);
const ABSENT: ReadonlySet<string> = new Set(['ERR_BUS_GONE', 'ERR_BUS_MDEV_GONE']);
const EACCES = 13;
const EPERM = 1;

/** The exit code and the sentence for anything that a command threw. */
export function explain(error: unknown): { readonly exitCode: number; readonly message: string } {
  const message = printable((error instanceof Error ? error.message : String(error)).split('\n')[0]!);
  if (error instanceof CommandError) return { exitCode: error.exitCode, message };
  if (!(error instanceof BusError)) return { exitCode: EXIT_REFUSED, message };
  if (USAGE.has(error.code)) return { exitCode: EXIT_USAGE, message };
  if (ABSENT.has(error.code)) return { exitCode: EXIT_ABSENT, message };
  const denied = (error.errno === EACCES || error.errno === EPERM) && process.geteuid?.() !== 0;
  return { exitCode: EXIT_REFUSED, message: denied ? `${message} (this needs root)` : message };
}
