/** Configuration spaces with every kind of capability and random registers, for comparison with the real lspci. */
import * as fc from 'fast-check';

interface Capability {
  readonly id: number;
  readonly bytes: Uint8Array;
}

/** Registers as devices have them: mostly zero, all ones, or anything. */
function registers(length: number): fc.Arbitrary<Uint8Array> {
  const byte = fc.oneof({ arbitrary: fc.constant(0), weight: 2 }, { arbitrary: fc.constant(0xff), weight: 1 }, { arbitrary: fc.nat(255), weight: 4 });
  return fc.uint8Array({ minLength: length, maxLength: length }).chain((plain) => fc.oneof(
    fc.constant(plain), fc.constant(new Uint8Array(length)), fc.array(byte, { minLength: length, maxLength: length }).map((list) => Uint8Array.from(list))));
}

/** Lengths in bytes, header included, of the conventional capabilities that are decoded; others by name only. */
const LENGTHS: Readonly<Record<number, number>> = { 0x01: 8, 0x03: 8, 0x05: 24, 0x07: 8, 0x09: 24, 0x0d: 8, 0x10: 60, 0x11: 12, 0x12: 8, 0x13: 6 };
const CONVENTIONAL: readonly number[] = [0x00, 0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x15, 0x77];
/** Not generated: those that are shown by name only but that the real one decodes (root complexes, multicast, CXL, IDE, Device 3, flits). */
const EXTENDED_LENGTHS: Readonly<Record<number, number>> = {
  0x01: 56, 0x02: 112, 0x03: 12, 0x09: 40, 0x0b: 16, 0x0d: 8, 0x0e: 8, 0x0f: 8, 0x10: 64, 0x13: 16, 0x15: 52, 0x17: 12, 0x18: 8, 0x19: 16, 0x1b: 8, 0x1d: 12, 0x1e: 16, 0x1f: 12,
  0x23: 16, 0x24: 52, 0x26: 32, 0x27: 8, 0x2a: 32, 0x2e: 24, 0x31: 16,
};
const EXTENDED: readonly number[] = [
  ...Object.keys(EXTENDED_LENGTHS).map(Number), 0x00, 0x04, 0x06, 0x08, 0x0a, 0x11, 0x16, 0x1a, 0x1c, 0x20, 0x21, 0x22, 0x25, 0x28, 0x29, 0x99, 0x1234,
];

function capability(ids: readonly number[], lengths: Readonly<Record<number, number>>, fallback: number): fc.Arbitrary<Capability> {
  return fc.constantFrom(...ids).chain((id) => registers(lengths[id] ?? fallback).map((bytes) => ({ id, bytes })));
}

/** Of every type and version there is, which random bytes seldom are. */
const express: fc.Arbitrary<Capability> = fc.tuple(registers(60), fc.constantFrom(1, 2, 2, 2, 3), fc.nat(11), fc.nat(255)).map(([bytes, version, type, upper]) => {
  bytes[2] = version | (type << 4);
  bytes[3] = upper;
  return { id: 0x10, bytes };
});

/** A BAR as firmware leaves it: absent, I/O, memory of any kind, with and without an address. */
const bar: fc.Arbitrary<number> = fc.oneof(
  fc.constant(0), fc.constant(0xffff_ffff), fc.nat(0xffff).map((port) => ((port << 2) | 1) >>> 0), fc.constantFrom(0x4, 0xc, 0x8, 0x2, 0x6),
  fc.tuple(fc.nat(0xfff), fc.constantFrom(0, 4, 8, 0xc)).map(([page, kind]) => ((page << 20) | kind) >>> 0));

const header = fc.record({
  bytes: registers(0x40),
  vendor: fc.constantFrom(0x8086, 0x1af4, 0x1234, 0x494f),
  device: fc.constantFrom(0x1889, 0x1000, 0x1041, 0x107f, 0x0dc8),
  classCode: fc.constantFrom(0x020000, 0x010802, 0xff0000, 0x010185, 0x01018a, 0x0c0330, 0x060400, 0x028000),
  subVendor: fc.constantFrom(0, 0xffff, 0x8086, 0x1af4),
  bars: fc.array(bar, { minLength: 6, maxLength: 6 }),
  rom: fc.constantFrom(0, 1, 0xfebc0000, 0xfebc0001, 0xffff_ffff, 0xfffff800),
  pin: fc.nat(4),
  interruptLine: fc.constantFrom(0, 11, 255),
});

/** How the conventional list ends: as it should, in a circle, in bytes of all ones, or outside of what is well-formed. */
const ending = fc.constantFrom('end', 'end', 'end', 'loop', 'broken');

export const configSpace: fc.Arbitrary<Uint8Array> = fc.record({
  header,
  // Two of three are PCI Express functions: only they have extended capabilities (PCI-X ones aside).
  conventional: fc.tuple(fc.array(capability(CONVENTIONAL, LENGTHS, 4), { maxLength: 6 }), fc.option(express, { freq: 3 }))
    .map(([some, express]) => (express === null ? some : [...some.slice(0, 2), express, ...some.slice(2)])),
  extended: fc.array(capability(EXTENDED, EXTENDED_LENGTHS, 8), { maxLength: 12 }),
  ending,
  extendedEnding: ending,
  size: fc.constantFrom(64, 256, 4096, 4096, 4096, 4096),
}).map(build);

function build(space: {
  readonly header: {
    readonly bytes: Uint8Array; readonly vendor: number; readonly device: number; readonly classCode: number; readonly subVendor: number;
    readonly bars: readonly number[]; readonly rom: number; readonly pin: number; readonly interruptLine: number;
  };
  readonly conventional: readonly Capability[];
  readonly extended: readonly Capability[];
  readonly ending: string;
  readonly extendedEnding: string;
  readonly size: number;
}): Uint8Array {
  const all = new Uint8Array(4096);
  const view = new DataView(all.buffer);
  const { header: h } = space;
  all.set(h.bytes);
  // One in eight has no list of capabilities (PCI_STATUS_CAP_LIST).
  all[6] = (h.bytes[9]! & 7) === 7 ? h.bytes[6]! & ~0x10 : h.bytes[6]! | 0x10;
  view.setUint16(0, h.vendor, true);
  view.setUint16(2, h.device, true);
  view.setUint32(8, ((h.classCode << 8) | h.bytes[8]!) >>> 0, true);
  all[0x0e] = h.bytes[0x0e]! & 0x80;
  h.bars.forEach((value, index) => { view.setUint32(0x10 + 4 * index, value, true); });
  view.setUint16(0x2c, h.subVendor, true);
  view.setUint32(0x30, h.rom, true);
  all[0x3c] = h.interruptLine;
  all[0x3d] = h.pin;

  let link = 0x34;
  let at = 0x40;
  all[link] = 0;
  for (const { id, bytes } of space.conventional) {
    if (at + bytes.length > 256) break;
    all.set(bytes, at);
    all[at] = id;
    // Registers of Intel's host bridges (version 1 of its capability) are not decoded.
    if (id === 0x09 && h.vendor === 0x8086) all[at + 3] = 0x20;
    all[link] = at;
    link = at + 1;
    all[link] = 0;
    at += (bytes.length + 3) & ~3;
  }
  if (space.ending === 'loop' && at > 0x40) all[link] = 0x41;
  if (space.ending === 'broken' && at <= 252) {
    all[link] = at;
    all.fill(0xff, at, at + 4);
  }

  let next = 0x100;
  let previous = -1;
  const head = (where: number, low: number, target: number): void => { view.setUint32(where, ((low & 0x000f_ffff) | (target << 20)) >>> 0, true); };
  for (const { id, bytes } of space.extended) {
    const length = (bytes.length + 3) & ~3;
    if (next + length > 4096) break;
    all.set(bytes, next);
    head(next, id | ((bytes[2]! & 0xf) << 16), 0);
    // A vendor of CXL's is not random.
    if (id === 0x23 && view.getUint16(next + 4, true) === 0x1e98) all[next + 4] = 0;
    if (previous >= 0) head(previous, view.getUint32(previous, true), next);
    previous = next;
    next += length;
  }
  if (previous >= 0 && space.extendedEnding === 'loop') head(previous, view.getUint32(previous, true), 0x100);
  if (previous >= 0 && space.extendedEnding === 'broken') head(previous, view.getUint32(previous, true), 0xffc);
  return all.subarray(0, space.size);
}
