import type { MapRequest } from './sys.ts';
import { ENOMEM, check, errno, libc } from './libc.ts';
import { LinuxError } from './errors.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffffffffffffffffn;

export function mmap(request: MapRequest): bigint {
  const protection = (request.read ? PROT_READ : 0) | (request.write ? PROT_WRITE : 0);
  const flags = (request.fd === undefined ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED) | (request.address === 0n ? 0 : MAP_FIXED);
  const result = libc.mmap(request.address, request.lengthBytes, protection, flags, request.fd ?? -1, request.fdOffset ?? 0);
  const address = BigInt(result);
  if (address === MAP_FAILED) {
    const e = errno();
    const what = request.fd === undefined ? 'anonymous' : `fd ${request.fd}, offset ${request.fdOffset ?? 0}`;
    throw new LinuxError(e, 'mmap', `${request.lengthBytes} bytes, ${what}`, e === ENOMEM ? 'out of memory or past vm.max_map_count' : '');
  }
  return address;
}

export function munmap(address: bigint, lengthBytes: number): void {
  check(libc.munmap(address, lengthBytes), 'munmap', `0x${address.toString(16)}, ${lengthBytes} bytes`);
}

export function madvise(address: bigint, lengthBytes: number, advice: number): void {
  check(libc.madvise(address, lengthBytes, advice), 'madvise', `0x${address.toString(16)}, ${lengthBytes} bytes, ${advice}`);
}
