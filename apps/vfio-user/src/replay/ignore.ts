/** What a replay does not compare: `REGION_READ:BAR0+0x8:4`, `DEVICE_GET_INFO:+4:4` (bytes of the payload), `MIG_DATA_READ` (all of it). */
import { COMMANDS, regionName, VFIO_USER_REGION_READ } from '@emudev/vfio-user-protocol';

export interface Ignored {
  readonly command: number;
  /** A region, for data of REGION_READ; undefined: the payload itself. */
  readonly region: number | undefined;
  readonly offset: number;
  readonly bytes: number;
}

const REGION_INDEXES = new Map(Array.from({ length: 9 }, (_, i) => [regionName(i), i]));
const ACCESS_BYTES = 16;

/** @throws RangeError that says what is wrong */
export function parseIgnored(text: string): Ignored {
  const match = /^(\w+)(?::(\w*)\+(0x[0-9a-f]+|\d+):(\d+))?$/i.exec(text);
  const command = [...COMMANDS].find(([, { name }]) => name === match?.[1]?.toUpperCase())?.[0];
  if (match === null || command === undefined) throw new RangeError(`COMMAND, COMMAND:+OFFSET:BYTES or REGION_READ:REGION+OFFSET:BYTES is wanted, not "${text}"`);
  const [, , place, offset, bytes] = match;
  if (offset === undefined) return { command, region: undefined, offset: 0, bytes: Infinity };
  if (place === '') return { command, region: undefined, offset: Number(offset), bytes: Number(bytes) };
  const region = REGION_INDEXES.get(place!.toUpperCase()) ?? (/^\d+$/.test(place!) ? Number(place) : undefined);
  if (region === undefined) throw new RangeError(`no region is called "${place!}"`);
  if (command !== VFIO_USER_REGION_READ) throw new RangeError('only the data of REGION_READ has places in regions');
  return { command, region, offset: Number(offset), bytes: Number(bytes) };
}

/** True for the bytes of a reply's payload that are not compared. */
export function ignoredBytes(ignored: readonly Ignored[], command: number, request: Uint8Array | undefined): (at: number) => boolean {
  const ranges: { readonly from: number; readonly to: number }[] = [];
  for (const { command: which, region, offset, bytes } of ignored) {
    if (which !== command) continue;
    if (region === undefined) ranges.push({ from: offset, to: offset + bytes });
    else if (request !== undefined && request.length >= ACCESS_BYTES) {
      const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
      if (view.getUint32(8, true) !== region) continue;
      const from = ACCESS_BYTES + offset - Number(view.getBigUint64(0, true));
      // The fixed part is never meant.
      ranges.push({ from: Math.max(from, ACCESS_BYTES), to: from + bytes });
    }
  }
  return (at) => ranges.some(({ from, to }) => at >= from && at < to);
}
