/** What kind of socket an inherited descriptor is: socket activation hands over a listener, a VMM a connection. */
import { fstatSync, readFileSync } from 'node:fs';
import { UsageError } from './arguments.ts';

/** `__SO_ACCEPTCON` in the flags column of /proc/net/unix (Linux include/uapi/linux/net.h). */
const SO_ACCEPTCON = 0x10000;

/** True for a listening UNIX socket, false for a connected one; UsageError for anything else. */
export function isListener(fd: number): boolean {
  let inode: string;
  try {
    const status = fstatSync(fd);
    if (!status.isSocket()) throw new UsageError(`descriptor ${fd} is not a socket`);
    inode = String(status.ino);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`descriptor ${fd} is not open: it must be inherited from whoever starts this process`);
  }
  // Num RefCount Protocol Flags Type St Inode Path
  const row = readFileSync('/proc/net/unix', 'utf8').split('\n').map((line) => line.trim().split(/\s+/)).find((columns) => columns[6] === inode);
  if (row === undefined) throw new UsageError(`descriptor ${fd} is not a UNIX socket`);
  return (Number.parseInt(row[3]!, 16) & SO_ACCEPTCON) !== 0;
}
