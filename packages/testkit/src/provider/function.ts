/** The provider suite's cases of the PCI function: descriptions, configuration space, accesses, resets. */
import { equal, ok } from 'node:assert/strict';
import {
  IRQ_INTX, IRQ_MSI, IRQ_MSIX, PCI_BAR_IO, PCI_BAR_64, PCI_BASE_ADDRESS_0, PCI_CAPABILITY_LIST, PCI_CAP_ID_EXP, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_CLASS_PROG,
  PCI_DEVICE_ID, PCI_FIRST_EXTENDED_CAPABILITY, PCI_INTERRUPT_PIN, PCI_STATUS, PCI_STATUS_CAP_LIST, PCI_VENDOR_ID, REGION_BAR0, REGION_CONFIG,
} from '@emudev/pci';
import { linux } from '@emudev/linux';
import { quietTurns, same, type ConformanceCase } from '../suite.ts';
import type { ProviderCase, ProviderRig } from './rig.ts';

const SIZES = [1, 2, 4, 8] as const;
const PAGE = 4096;
const BARS = 6;
const HEADER_TYPE = 0x0e;
/** Device Capabilities bit 28 and Device Control bit 15 of PCI Express: function level reset. */
const EXP_DEVCAP = 4;
const EXP_DEVCTL = 8;

const u16 = (bytes: Uint8Array, at: number): number => bytes[at]! | (bytes[at + 1]! << 8);
const u32 = (bytes: Uint8Array, at: number): number => (u16(bytes, at) | (u16(bytes, at + 2) << 16)) >>> 0;

/** Both capability lists, walked as a guest walks them. */
function capabilities(config: Uint8Array): { readonly id: number; readonly offset: number; readonly extended: boolean }[] {
  const found: { id: number; offset: number; extended: boolean }[] = [];
  const seen = new Set<number>();
  const visit = (offset: number, least: number): void => {
    ok(offset >= least && offset % 4 === 0 && offset + 4 <= config.length, `a capability lies at a multiple of 4 from 0x${least.toString(16)} on, not at 0x${offset.toString(16)}`);
    ok(!seen.has(offset), `the capability list ends: 0x${offset.toString(16)} comes twice`);
    seen.add(offset);
  };
  if ((u16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST) !== 0) {
    for (let offset = config[PCI_CAPABILITY_LIST]!; offset !== 0; offset = config[offset + 1]!) {
      visit(offset, 0x40);
      found.push({ id: config[offset]!, offset, extended: false });
    }
  }
  if (config.length > PCI_FIRST_EXTENDED_CAPABILITY) {
    for (let offset = PCI_FIRST_EXTENDED_CAPABILITY, header = u32(config, offset); header !== 0; header = u32(config, offset)) {
      visit(offset, PCI_FIRST_EXTENDED_CAPABILITY);
      found.push({ id: header & 0xffff, offset, extended: true });
      offset = header >>> 20;
      if (offset === 0) break;
      ok(offset >= PCI_FIRST_EXTENDED_CAPABILITY && offset + 4 <= config.length, `an extended capability lies from 0x100 on, not at 0x${offset.toString(16)}`);
    }
  }
  return found;
}

/** Offsets of a region that are tried: its beginning, page borders, its end. */
function sample(sizeBytes: number): number[] {
  const offsets = new Set<number>();
  for (let offset = 0; offset < Math.min(sizeBytes, 512); offset++) offsets.add(offset);
  for (let page = 1; page < Math.min(64, sizeBytes / PAGE); page++) for (let i = -4; i < 8; i++) offsets.add(page * PAGE + i);
  for (let offset = Math.max(0, sizeBytes - 16); offset < sizeBytes; offset++) offsets.add(offset);
  return [...offsets].filter((offset) => offset < sizeBytes).sort((a, b) => a - b);
}

/** An access may be refused, with an error that has an errno for the consumer; anything else is a defect. */
async function tolerated(what: string, body: () => Promise<unknown>): Promise<void> {
  try {
    await body();
  } catch (error) {
    ok(error instanceof Error && 'errno' in error && typeof error.errno === 'number', `${what} throws ${String(error)}`);
  }
}

/** What a consumer reads of the whole device: configuration space, and the sampled words of every other region. */
async function image(rig: ProviderRig): Promise<Map<string, number>> {
  const read = new Map<string, number>();
  for (const { index, sizeBytes, readable } of rig.subject.pci.regions) {
    if (!readable) continue;
    const offsets = index === REGION_CONFIG ? Array.from({ length: sizeBytes }, (_, i) => i) : sample(sizeBytes);
    for (const offset of offsets) {
      if (offset % 4 !== 0 || offset + 4 > sizeBytes || rig.options.isVolatile?.(index, offset) === true) continue;
      await tolerated(`a read of region ${index} at ${offset}`, async () => { read.set(`region ${index} at 0x${offset.toString(16)}`, await rig.host.get(index, offset)); });
    }
  }
  return read;
}

function sameImage(what: string, seen: ReadonlyMap<string, number>, expected: ReadonlyMap<string, number>): void {
  for (const [where, value] of expected) equal(seen.get(where), value, `${what}: ${where} reads 0x${(seen.get(where) ?? 0).toString(16)}, at power-on 0x${value.toString(16)}`);
}

/** Writes of every width everywhere that is sampled. */
async function scribble(rig: ProviderRig, regions: (index: number) => boolean, patterns: readonly number[]): Promise<void> {
  for (const { index, sizeBytes, writable } of rig.subject.pci.regions) {
    if (!writable || !regions(index)) continue;
    const offsets = index === REGION_CONFIG ? Array.from({ length: sizeBytes }, (_, i) => i) : sample(sizeBytes);
    for (const pattern of patterns) {
      for (const offset of offsets) {
        for (const size of SIZES) {
          if (offset % size !== 0 || offset + size > sizeBytes) continue;
          await tolerated(`a write of ${size} bytes to region ${index} at 0x${offset.toString(16)}`, () => rig.host.write(index, offset, new Uint8Array(size).fill(pattern)));
        }
      }
    }
  }
  await quietTurns();
}

const flrOf = (config: Uint8Array): number | undefined => {
  const express = capabilities(config).find(({ id, extended }) => id === PCI_CAP_ID_EXP && !extended);
  return express !== undefined && (u32(config, express.offset + EXP_DEVCAP) & (1 << 28)) !== 0 ? express.offset + EXP_DEVCTL : undefined;
};

export function functionCases(on: ProviderCase): readonly ConformanceCase[] {
  /** Connected, as after power-on. */
  const powered = (body: (rig: ProviderRig) => Promise<void>): Promise<void> => on(async (rig) => {
    await rig.host.connect();
    await body(rig);
  });
  return [
    {
      id: 'provider.regions',
      title: 'describes its regions without contradictions; what may be mapped is page-aligned, inside, and backed by a file',
      run: () => on(({ subject: { pci } }) => {
        const indexes = pci.regions.map(({ index }) => index);
        equal(new Set(indexes).size, indexes.length, 'every region is described once');
        ok(indexes.every((index) => Number.isInteger(index) && index >= 0 && index <= 8), `regions have VFIO's indexes 0..8, not ${indexes.join(', ')}`);
        const config = pci.regions.find(({ index }) => index === REGION_CONFIG);
        ok(config?.sizeBytes === 256 || config?.sizeBytes === 4096, `configuration space is there, of 256 or 4096 bytes, not ${String(config?.sizeBytes)}`);
        equal(config.mmap, undefined, 'configuration space cannot be mapped');
        for (const { index, sizeBytes, mmap } of pci.regions) {
          ok(Number.isSafeInteger(sizeBytes) && sizeBytes > 0, `region ${index} has a size, not ${sizeBytes}`);
          if (mmap === undefined) continue;
          const file = linux.fstat(mmap.backing.fd);
          let end = 0;
          for (const area of [...mmap.areas].sort((a, b) => a.offset - b.offset)) {
            ok(area.offset % PAGE === 0 && area.sizeBytes % PAGE === 0 && area.sizeBytes > 0, `region ${index}: areas that may be mapped are whole pages`);
            ok(area.offset >= end && area.offset + area.sizeBytes <= sizeBytes, `region ${index}: areas do not overlap and lie inside`);
            ok(mmap.backing.offset + area.offset + area.sizeBytes <= file.sizeBytes, `region ${index}: the file behind it holds the area at 0x${area.offset.toString(16)}`);
            end = area.offset + area.sizeBytes;
          }
        }
      }),
    },
    {
      id: 'provider.irqs',
      title: 'describes its interrupts as its configuration space does',
      run: () => powered(async ({ subject: { pci }, host }) => {
        const count = (index: number): number => pci.irqs.find((irq) => irq.index === index)?.count ?? 0;
        const indexes = pci.irqs.map(({ index }) => index);
        equal(new Set(indexes).size, indexes.length, 'every kind is described once');
        for (const irq of pci.irqs) ok(Number.isInteger(irq.count) && irq.count >= 0 && irq.index >= 0 && irq.index <= 4, `interrupt kind ${irq.index}: ${irq.count} vectors`);
        const config = await host.config();
        const caps = capabilities(config);
        const msix = caps.find(({ id, extended }) => id === PCI_CAP_ID_MSIX && !extended);
        const msi = caps.find(({ id, extended }) => id === PCI_CAP_ID_MSI && !extended);
        equal(count(IRQ_MSIX), msix === undefined ? 0 : (u16(config, msix.offset + 2) & 0x7ff) + 1, 'MSI-X vectors, and those of the capability');
        equal(count(IRQ_MSI), msi === undefined ? 0 : 1 << ((u16(config, msi.offset + 2) >> 1) & 7), 'MSI vectors, and those of the capability');
        equal(count(IRQ_INTX), config[PCI_INTERRUPT_PIN] === 0 ? 0 : 1, 'INTx, and the interrupt pin');
        if (msix === undefined) return;
        for (const [what, at, bytes] of [['table', 4, count(IRQ_MSIX) * 16], ['pending bits', 8, Math.ceil(count(IRQ_MSIX) / 64) * 8]] as const) {
          const where = u32(config, msix.offset + at);
          const region = host.region(where & 7);
          const offset = where & ~7;
          ok(offset + bytes <= region.sizeBytes, `the MSI-X ${what} lie inside BAR ${where & 7}`);
          ok((region.mmap?.areas ?? []).every((area) => area.offset >= offset + bytes || area.offset + area.sizeBytes <= offset), `the MSI-X ${what} are in no area that may be mapped`);
        }
      }),
    },
    {
      id: 'provider.identity',
      title: 'has a vendor, a device, a class and a type-0 header, and cannot be talked out of them',
      run: () => powered(async (rig) => {
        const before = await rig.host.config();
        ok(u16(before, PCI_VENDOR_ID) !== 0 && u16(before, PCI_VENDOR_ID) !== 0xffff, 'the vendor is neither 0 nor 0xffff');
        ok(u16(before, PCI_DEVICE_ID) !== 0xffff, 'the device is not 0xffff');
        equal(before[HEADER_TYPE]! & 0x7f, 0, 'the header is of type 0');
        ok(before[PCI_CLASS_PROG + 2]! !== 0 || before[PCI_CLASS_PROG + 1]! !== 0, 'it has a class');
        await scribble(rig, (index) => index === REGION_CONFIG, [0xff, 0x00]);
        const after = await rig.host.config();
        for (const at of [PCI_VENDOR_ID, PCI_VENDOR_ID + 1, PCI_DEVICE_ID, PCI_DEVICE_ID + 1, PCI_CLASS_PROG, PCI_CLASS_PROG + 1, PCI_CLASS_PROG + 2, HEADER_TYPE, PCI_CAPABILITY_LIST]) {
          equal(after[at], before[at], `byte 0x${at.toString(16)} of configuration space is read-only`);
        }
        same('the capability lists after everything was written', capabilities(after), capabilities(before));
      }),
    },
    {
      id: 'provider.bars',
      title: 'tells the size of each BAR as PCI has it, and it is the region\'s',
      run: () => powered(async ({ host, subject: { pci } }) => {
        const before = await host.config();
        for (let bar = 0; bar < BARS; bar++) {
          const at = PCI_BASE_ADDRESS_0 + 4 * bar;
          const type = u32(before, at) & 0xf;
          const wide = (type & PCI_BAR_IO) === 0 && (type & PCI_BAR_64) !== 0;
          for (let word = 0; word < (wide ? 2 : 1); word++) await host.set(REGION_CONFIG, at + 4 * word, 0xffffffff);
          const low = await host.get(REGION_CONFIG, at);
          const high = wide ? await host.get(REGION_CONFIG, at + 4) : 0;
          const mask = (type & PCI_BAR_IO) !== 0 ? 3 : 15;
          const bits = (BigInt(high) << 32n) | BigInt((low & ~mask) >>> 0);
          const size = bits === 0n ? 0n : bits & -bits;
          const region = pci.regions.find(({ index }) => index === REGION_BAR0 + bar);
          if (size !== 0n) {
            equal(low & mask, type & mask, `BAR ${bar} keeps its type`);
            equal(BigInt(region?.sizeBytes ?? 0), size, `BAR ${bar} and region ${bar}`);
            const top = 1n << (wide ? 64n : (type & PCI_BAR_IO) !== 0 && bits < 0x10000n ? 16n : 32n);
            equal(bits, top - size, `BAR ${bar} takes every address that is a multiple of its size`);
          }
          await host.set(REGION_CONFIG, at, 0);
          if (wide) await host.set(REGION_CONFIG, at + 4, 0);
          equal(u32(await host.config(), at) & ~mask, 0, `BAR ${bar} takes the address 0`);
          if (wide) bar++;
        }
      }),
    },
    {
      id: 'provider.capabilities',
      title: 'has capability lists that end, and lie where they may',
      run: () => powered(async ({ host }) => {
        const config = await host.config();
        const list = capabilities(config);
        equal(list.some(({ extended }) => !extended), (u16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST) !== 0, 'the status register says whether there is a list');
      }),
    },
    {
      id: 'provider.config-reads',
      title: 'configuration space reads the same byte by byte and in every width, at every offset',
      run: () => powered(async ({ host }) => {
        const { sizeBytes } = host.region(REGION_CONFIG);
        const whole = await host.config();
        for (const size of SIZES) {
          for (let offset = 0; offset + size <= sizeBytes; offset++) {
            const bytes = await host.read(REGION_CONFIG, offset, size);
            ok(bytes.every((byte, i) => byte === whole[offset + i]), `${size} bytes at 0x${offset.toString(16)}`);
          }
        }
      }),
    },
    {
      id: 'provider.config-writes',
      title: 'takes every write to configuration space, whatever it is and wherever',
      run: () => powered(async (rig) => {
        const { host } = rig;
        const { sizeBytes } = host.region(REGION_CONFIG);
        for (const pattern of [0x00, 0xff, 0xa5]) {
          for (const size of SIZES) {
            for (let offset = 0; offset + size <= sizeBytes; offset++) await host.write(REGION_CONFIG, offset, new Uint8Array(size).fill(pattern));
          }
        }
        await quietTurns();
        await host.disconnect();
        await rig.ready();
      }),
    },
    {
      id: 'provider.accesses',
      title: 'answers every access to every region, or refuses it with an errno',
      run: () => on(async (rig) => {
        await rig.start();
        await rig.ready();
        for (const { index, sizeBytes } of rig.subject.pci.regions) {
          for (const offset of sample(sizeBytes)) {
            for (const size of SIZES) {
              if (offset + size <= sizeBytes) await tolerated(`a read of ${size} bytes of region ${index} at 0x${offset.toString(16)}`, () => rig.host.read(index, offset, size));
            }
          }
        }
        await scribble(rig, (index) => index !== REGION_CONFIG, [0xff, 0x00, 0xa5]);
        await rig.host.reset();
        await rig.host.disconnect();
        await rig.ready();
      }),
    },
    {
      id: 'provider.reset-restores',
      title: 'a reset restores what was there at power-on: configuration space and registers',
      run: () => on(async (rig) => {
        await rig.start();
        await rig.ready();
        const powerOn = await image(rig);
        await scribble(rig, () => true, [0xff, 0x5a]);
        if (!rig.subject.pci.resettable) return;
        await rig.host.reset();
        await quietTurns();
        sameImage('after a reset', await image(rig), powerOn);
      }),
    },
    {
      id: 'provider.departure-restores',
      title: 'the next consumer finds the device as the first one did',
      run: () => on(async (rig) => {
        await rig.start();
        await rig.ready();
        const powerOn = await image(rig);
        await scribble(rig, () => true, [0xff, 0x5a]);
        await rig.host.disconnect();
        await rig.ready();
        sameImage('for the next consumer', await image(rig), powerOn);
        equal(rig.host.intx.asserted, false, 'INTx is not asserted');
      }),
    },
    {
      id: 'provider.flr',
      title: 'a function level reset, where it has one, restores what was there at power-on',
      run: () => on(async (rig) => {
        await rig.ready();
        const { host } = rig;
        const powerOn = await image(rig);
        const control = flrOf(await host.config());
        if (control === undefined) return;
        await scribble(rig, (index) => index !== REGION_CONFIG, [0x5a]);
        await host.set(REGION_CONFIG, PCI_BASE_ADDRESS_0, 0xfff00000);
        await host.set(REGION_CONFIG, control, (await host.get(REGION_CONFIG, control, 2)) | 0x8000, 2);
        await quietTurns();
        sameImage('after a function level reset', await image(rig), powerOn);
      }),
    },
  ];
}
