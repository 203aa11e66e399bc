/** A reply as it was recorded and as it came now. */
import { isDeepStrictEqual } from 'node:util';
import { decodeHeader, describeMessage, errnoName, HEADER_BYTES, headerFlagNames, replyErrno, VFIO_USER_VERSION, type Frame, type Header } from '@emudev/vfio-user-protocol';
import { descriptorText, type DescriptorInfo } from '../trace/descriptors.ts';
import { ignoredBytes, type Ignored } from './ignore.ts';
import type { RecordedMessage } from './recording.ts';

export interface FieldDifference {
  readonly field: string;
  readonly recorded: string;
  readonly replayed: string;
}

const SHOWN_BYTES = 64;

/** Empty where they are equal but for what is ignored. */
export function compareReplies(recorded: RecordedMessage, frame: Frame, fds: readonly DescriptorInfo[], ignored: readonly Ignored[]): FieldDifference[] {
  const was = decodeHeader(recorded.captured.bytes);
  const differences: FieldDifference[] = [];
  const note = (field: string, before: string, now: string): void => { if (before !== now) differences.push({ field, recorded: before, replayed: now }); };
  note('flags', headerFlagNames(was.flags), headerFlagNames(frame.flags));
  note('error', errorText(was), errorText(frame));
  const kinds = (list: readonly DescriptorInfo[]): string => (list.length === 0 ? 'none' : list.map((fd) => descriptorText({ ...fd, name: '' })).join(', '));
  note('descriptors', kinds(recorded.captured.fds), kinds(fds));
  // One failed and the other did not, or differently: their payloads have nothing in common.
  if (differences.length > 0 && (replyErrno(was) !== 0 || replyErrno(frame) !== 0)) return differences;
  if (samePayload(was.command, recorded, frame.payload, ignored)) return differences;
  const before = differences.length;
  const [then, now] = [fieldsOf(was, recorded.payload, recorded), fieldsOf(frame, frame.payload, recorded)];
  for (const field of new Set([...then.keys(), ...now.keys()])) note(field, then.get(field) ?? '-', now.get(field) ?? '-');
  // What differs is beyond what is shown of the fields.
  if (differences.length === before) note('payload', firstDifference(recorded.payload, frame.payload), firstDifference(frame.payload, recorded.payload));
  return differences;
}

/** The field means nothing without the flag. */
function errorText(header: Pick<Header, 'flags' | 'error'>): string {
  return replyErrno(header) === 0 ? 'none' : errnoName(header.error);
}

function samePayload(command: number, recorded: RecordedMessage, payload: Uint8Array, ignored: readonly Ignored[]): boolean {
  const then = recorded.payload;
  if (command === VFIO_USER_VERSION && sameVersion(then, payload)) return true;
  const skip = ignoredBytes(ignored, command, recorded.partner?.payload);
  const length = Math.max(then.length, payload.length);
  for (let at = 0; at < length; at++) {
    if (then[at] !== payload[at] && !skip(at)) return false;
  }
  return true;
}

/** Spacing and the order of keys say nothing. */
function sameVersion(then: Uint8Array, now: Uint8Array): boolean {
  const parse = (payload: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(payload.subarray(4, payload.indexOf(0, 4))));
  try {
    return isDeepStrictEqual(then.subarray(0, 4).join(), now.subarray(0, 4).join()) && isDeepStrictEqual(parse(then), parse(now));
  } catch {
    return false;
  }
}

function fieldsOf(header: Header, payload: Uint8Array, recorded: RecordedMessage): Map<string, string> {
  const request = recorded.partner === undefined ? {} : { request: { command: recorded.partner.header!.command, payload: recorded.partner.payload } };
  const described = describeMessage({ ...header, size: HEADER_BYTES + payload.length }, payload, { maxDataBytes: SHOWN_BYTES, ...request });
  const fields = new Map(described.fields.map(({ name, value }) => [name, value]));
  if (described.malformed !== undefined) fields.set('malformed', described.malformed);
  return fields;
}

function firstDifference(bytes: Uint8Array, other: Uint8Array): string {
  const at = bytes.findIndex((byte, i) => byte !== other[i]);
  return at < 0 ? `${bytes.length} bytes` : `at ${at}: ${Buffer.from(bytes.subarray(at, at + 16)).toString('hex')}`;
}
