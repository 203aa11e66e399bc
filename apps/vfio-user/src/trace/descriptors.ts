/** What a passed descriptor is, as far as the kernel tells. */
import { readlinkSync } from 'node:fs';
import type { Sys } from '@emudev/linux';

/** Numbers are those of the capture format (README, "the capture"). */
export const DESCRIPTOR_KINDS = ['other', 'memfd', 'file', 'eventfd', 'socket', 'device', 'pipe'] as const;
export type DescriptorKind = (typeof DESCRIPTOR_KINDS)[number];

export interface DescriptorInfo {
  readonly kind: DescriptorKind;
  /** Of memfds and files. */
  readonly sizeBytes: number;
  /** The same for descriptors of the same file within one trace; 0 where the kernel does not tell them apart (eventfds). */
  readonly file: number;
  /** As the kernel calls it, e.g. 'memfd:ram', '/dev/shm/x'; empty if it does not. Of capture files: always empty. */
  readonly name: string;
}

const S_IFMT = 0o170000;
const KIND_OF_MODE: Readonly<Record<number, DescriptorKind>> = { 0o100000: 'file', 0o140000: 'socket', 0o020000: 'device', 0o060000: 'device', 0o010000: 'pipe' };
const UNKNOWN: DescriptorInfo = { kind: 'other', sizeBytes: 0, file: 0, name: '' };

/** Numbers files in the order they are met. */
export class Descriptors {
  readonly #sys: Pick<Sys, 'fstat'>;
  readonly #files = new Map<string, number>();
  readonly #maxFiles: number;

  constructor(sys: Pick<Sys, 'fstat'>, maxFiles = 65_536) {
    this.#sys = sys;
    this.#maxFiles = maxFiles;
  }

  /** Never throws: what cannot be found out is 'other'. */
  describe(fd: number): DescriptorInfo {
    try {
      const { mode, sizeBytes, dev, ino } = this.#sys.fstat(fd);
      const link = readlinkSync(`/proc/self/fd/${fd}`);
      if (link.startsWith('anon_inode:')) return { kind: link.includes('eventfd') ? 'eventfd' : 'other', sizeBytes: 0, file: 0, name: link.slice('anon_inode:'.length).replace(/^\[(.*)\]$/, '$1') };
      const kind = KIND_OF_MODE[mode & S_IFMT] ?? 'other';
      const memfd = kind === 'file' && link.startsWith('/memfd:');
      return {
        kind: memfd ? 'memfd' : kind,
        sizeBytes: kind === 'file' ? sizeBytes : 0,
        file: this.#number(`${dev}:${ino}`),
        name: memfd ? link.slice(1).replace(/ \(deleted\)$/, '') : kind === 'socket' || kind === 'pipe' ? '' : link,
      };
    } catch {
      return UNKNOWN;
    }
  }

  #number(identity: string): number {
    const known = this.#files.get(identity);
    if (known !== undefined) return known;
    if (this.#files.size >= this.#maxFiles) return 0;
    this.#files.set(identity, this.#files.size + 1);
    return this.#files.size;
  }
}

/** 'memfd:ram 512 MiB', 'eventfd', 'socket'. */
export function descriptorText(info: DescriptorInfo): string {
  const name = info.kind === 'eventfd' ? 'eventfd' : info.name === '' ? info.kind : info.name;
  return info.kind === 'memfd' || info.kind === 'file' ? `${name} ${sizeText(info.sizeBytes)}` : name;
}

/** '512 MiB', '4 KiB', '100 B': the largest unit that needs no fraction. */
export function sizeText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value !== 0 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value} ${units[unit]!}`;
}
