/** Pseudo terminals (pty(7), ioctl_tty(2)) and the raw mode of any terminal (termios(3)). */
import { LinuxError } from './errors.ts';
import { close } from './files.ts';
import { EINVAL, check, errno, libc } from './libc.ts';
import { O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR } from './open-flags.ts';

const TCGETS = 0x5401;
const TCSETS = 0x5402;
const TIOCGPTPEER = 0x5441;
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;

/** struct termios of the kernel: c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc[19]. */
const TERMIOS_BYTES = 36;
const [IFLAG, OFLAG, CFLAG, LFLAG] = [0, 1, 2, 3] as const;
const CC_BYTE = 17;
const VTIME = 5;
const VMIN = 6;
/** IGNBRK, BRKINT, PARMRK, ISTRIP, INLCR, IGNCR, ICRNL, IXON */
const RAW_CLEARS_INPUT = 0x0001 | 0x0002 | 0x0008 | 0x0020 | 0x0040 | 0x0080 | 0x0100 | 0x0400;
const OPOST = 0x0001;
/** CSIZE, PARENB */
const RAW_CLEARS_CONTROL = 0x0030 | 0x0100;
const CS8 = 0x0030;
/** ISIG, ICANON, ECHO, ECHONL, IEXTEN */
const RAW_CLEARS_LOCAL = 0x0001 | 0x0002 | 0x0008 | 0x0040 | 0x8000;

export function ptyOpen(): { master: number; path: string } {
  const master = libc.open('/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
  if (master < 0) throw new LinuxError(errno(), 'open', `'/dev/ptmx'`, 'a pseudo terminal needs devpts at /dev/pts, and one that is free (kernel.pty.max)');
  try {
    const number = new Int32Array(new ArrayBuffer(4));
    check(libc.ioctl(master, TIOCGPTN, number), 'ioctl', 'TIOCGPTN');
    const locked = Int32Array.of(0);
    check(libc.ioctl(master, TIOCSPTLCK, locked), 'ioctl', 'TIOCSPTLCK');
    return { master, path: `/dev/pts/${number[0]!}` };
  } catch (error) {
    close(master);
    throw error;
  }
}

export function ptyOpenSlave(master: number): number {
  return check(libc.ioctlValue(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), 'ioctl', `${master}, TIOCGPTPEER`);
}

export function ttySetRaw(fd: number, options: { processOutput?: boolean } = {}): Uint8Array {
  const settings = new Uint8Array(new ArrayBuffer(TERMIOS_BYTES));
  check(libc.ioctl(fd, TCGETS, settings), 'ioctl', `${fd}, TCGETS`);
  const raw = settings.slice();
  const flags = new Uint32Array(raw.buffer, 0, 4);
  flags[IFLAG]! &= ~RAW_CLEARS_INPUT;
  if (options.processOutput !== true) flags[OFLAG]! &= ~OPOST;
  flags[CFLAG] = (flags[CFLAG]! & ~RAW_CLEARS_CONTROL) | CS8;
  flags[LFLAG]! &= ~RAW_CLEARS_LOCAL;
  raw[CC_BYTE + VMIN] = 1;
  raw[CC_BYTE + VTIME] = 0;
  check(libc.ioctl(fd, TCSETS, raw), 'ioctl', `${fd}, TCSETS`);
  return settings;
}

export function ttyRestore(fd: number, settings: Uint8Array): void {
  if (settings.byteLength !== TERMIOS_BYTES) throw new LinuxError(EINVAL, 'ttyRestore', String(fd), `settings have ${TERMIOS_BYTES} bytes, as ttySetRaw returned them`);
  check(libc.ioctl(fd, TCSETS, settings), 'ioctl', `${fd}, TCSETS`);
}
