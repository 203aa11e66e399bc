import { closeSync, constants, openSync } from 'node:fs';
import { OwnedFd, S_IFMT, S_IFREG, type FileStatus, type Sys } from '@emudev/linux';
import { PcapError } from './errors.ts';
import { FILE_HEADER_BYTES, buildFileHeader, parseFileHeader, type FileFormat } from './file-format.ts';

/** Guest traffic is private. */
const CAPTURE_MODE = 0o600;

export interface InputFile {
  readonly fd: OwnedFd;
  readonly format: FileFormat;
}

export interface CaptureFiles {
  readonly input?: InputFile;
  readonly output?: OwnedFd;
}

interface OpenFile {
  readonly fd: OwnedFd;
  readonly status: FileStatus;
}

function failingAsFile<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (error instanceof PcapError) throw error;
    throw new PcapError('ERR_PCAP_FILE', `${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function openRegular(sys: Sys, who: string, path: string, flags: number): OpenFile {
  // O_NONBLOCK: opening a pipe must not wait for its other end before we can refuse it. Regular files do not care.
  const number = failingAsFile(`${who} cannot be opened`, () => openSync(path, flags | constants.O_NONBLOCK, CAPTURE_MODE));
  try {
    const status = failingAsFile(who, () => sys.fstat(number));
    if ((status.mode & S_IFMT) !== S_IFREG) throw new PcapError('ERR_PCAP_FILE_TYPE', `${who} is not a regular file`);
    return { fd: new OwnedFd(number, sys), status };
  } catch (error) {
    closeSync(number);
    throw error;
  }
}

function openInput(sys: Sys, path: string): OpenFile & InputFile {
  const who = `rx_pcap ${path}`;
  const file = openRegular(sys, who, path, constants.O_RDONLY);
  try {
    const header = new Uint8Array(FILE_HEADER_BYTES);
    const bytes = failingAsFile(`${who} cannot be read`, () => sys.pread(file.fd.fd, header, 0));
    return { ...file, format: parseFileHeader(header.subarray(0, bytes), who) };
  } catch (error) {
    file.fd.close();
    throw error;
  }
}

function openOutput(sys: Sys, path: string, snaplen: number, input: OpenFile | undefined): OwnedFd {
  const who = `tx_pcap ${path}`;
  // O_APPEND: a file that somebody, or we after a failed write, has made shorter is continued at its end. Not O_TRUNC: see below.
  const { fd, status } = openRegular(sys, who, path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND);
  try {
    if (input !== undefined && input.status.dev === status.dev && input.status.ino === status.ino) {
      throw new PcapError('ERR_PCAP_ARGS', `${who} is the file that rx_pcap reads: writing would erase it`);
    }
    failingAsFile(`${who} cannot be written`, () => {
      sys.ftruncate(fd.fd, 0);
      const written = sys.write(fd.fd, buildFileHeader(snaplen));
      if (written !== FILE_HEADER_BYTES) throw new Error(`only ${String(written ?? 0)} of ${String(FILE_HEADER_BYTES)} bytes of its header fit`);
    });
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Opens both files or none, checks the one to read and begins the one to write. PcapError. */
export function openFiles(sys: Sys, paths: { readonly rx?: string | undefined; readonly tx?: string | undefined }, snaplen: number): CaptureFiles {
  const input = paths.rx === undefined ? undefined : openInput(sys, paths.rx);
  try {
    const output = paths.tx === undefined ? undefined : openOutput(sys, paths.tx, snaplen, input);
    return { ...(input && { input }), ...(output && { output }) };
  } catch (error) {
    input?.fd.close();
    throw error;
  }
}
