/** The one who decides whether a configuration space is right: pciutils' lspci, reading our bytes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  ConfigSpace, extendedVendorCapability, msiCapability, msixCapability, pciExpressCapability, powerManagementCapability, rawCapability, serialNumberCapability, vendorCapability, type ConfigSpaceLayout,
} from '../src/index.ts';

/** `lspci -F FILE -vv -xxxx`, without leading white space. */
function lspci(space: ConfigSpace): { lines: string[]; bytes: string } {
  const bytes = new Uint8Array(space.sizeBytes);
  space.read(0, bytes);
  const row = (at: number): string => `${at.toString(16).padStart(2, '0')}: ${[...bytes.subarray(at, at + 16)].map((b) => b.toString(16).padStart(2, '0')).join(' ')}`;
  const rows = Array.from({ length: bytes.length / 16 }, (_, i) => row(16 * i));
  const folder = mkdtempSync(join(tmpdir(), 'lspci-'));
  try {
    const file = join(folder, 'dump');
    writeFileSync(file, `00:00.0 device\n${rows.join('\n')}\n\n`);
    const output = execFileSync('lspci', ['-F', file, '-n', '-vv', '-xxxx'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    // From 3.11 on pciutils names two things differently.
    const lines = output.split('\n').map((line) => line.trim().replace('IntMsgNum 0', 'MSI 00').replace(' TEE-IO-', ''));
    return { lines, bytes: lines.filter((line) => /^[0-9a-f]+: ([0-9a-f]{2} ){15}/.test(line)).join('\n') === rows.join('\n') ? 'the same' : output };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const CARD: ConfigSpaceLayout = {
  sizeBytes: 4096, vendorId: 0xe0de, deviceId: 0x0042, subsystemVendorId: 0xcafe, subsystemId: 0xbabe, revision: 3, classCode: 0x020000, interruptPin: 1,
  bars: [{ index: 0, kind: 'memory64', sizeBytes: 2 ** 20, prefetchable: true }, { index: 2, kind: 'io', sizeBytes: 32 }, { index: 3, kind: 'memory32', sizeBytes: 0x4000 }],
  capabilities: [
    powerManagementCapability(), vendorCapability({ payload: new Uint8Array(13) }), pciExpressCapability({ flr: true }),
    msiCapability({ vectors: 8 }), msixCapability({ vectors: 17, table: { bar: 3, offset: 0 }, pba: { bar: 3, offset: 0x1000 } }),
    serialNumberCapability({ serial: 0xcafe_babe_dead_beefn }),
    extendedVendorCapability({ vsecId: 1, vsecRevision: 1, payload: new Uint8Array(13) }), extendedVendorCapability({ vsecId: 2, vsecRevision: 2, payload: new Uint8Array(13), offset: 0x400 }),
    rawCapability({ id: 0x19, extendedVersion: 1, body: new Uint8Array(8), offset: 0x500 }),
  ],
};
const write = (space: ConfigSpace, offset: number, ...bytes: number[]): void => void space.write(offset, Uint8Array.from(bytes));

describe('lspci -vv', () => {
  it('reads a card at power-on as it was described', () => {
    const { lines, bytes } = lspci(new ConfigSpace(CARD));
    expect(bytes).toBe('the same');
    expect(lines.slice(0, 6)).toEqual([
      '00:00.0 0200: e0de:0042 (rev 03)', 'Subsystem: cafe:babe',
      'Control: I/O- Mem- BusMaster- SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx-',
      'Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-',
      'Interrupt: pin A routed to IRQ 0', 'Region 0: Memory at <unassigned> (64-bit, prefetchable) [disabled]',
    ]);
    expect(lines.filter((line) => line.startsWith('Capabilities: '))).toEqual([
      'Capabilities: [40] Power Management version 3', 'Capabilities: [48] Vendor Specific Information: Len=10 <?>', 'Capabilities: [58] Express (v2) Endpoint, MSI 00',
      'Capabilities: [94] MSI: Enable- Count=1/8 Maskable+ 64bit+', 'Capabilities: [ac] MSI-X: Enable- Count=17 Masked-',
      'Capabilities: [100 v1] Device Serial Number ca-fe-ba-be-de-ad-be-ef', 'Capabilities: [10c v1] Vendor Specific Information: ID=0001 Rev=1 Len=015 <?>',
      'Capabilities: [400 v1] Vendor Specific Information: ID=0002 Rev=2 Len=015 <?>', 'Capabilities: [500 v1] Secondary PCI Express',
    ]);
    for (const line of [
      'Flags: PMEClk- DSI- D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)', 'Status: D0 NoSoftRst+ PME-Enable- DSel=0 DScale=0 PME-',
      'DevCap:	MaxPayload 128 bytes, PhantFunc 0, Latency L0s <64ns, L1 <1us', 'ExtTag- AttnBtn- AttnInd- PwrInd- RBE+ FLReset+ SlotPowerLimit 0W',
      'RlxdOrd+ ExtTag- PhantFunc- AuxPwr- NoSnoop+ FLReset-', 'MaxPayload 128 bytes, MaxReadReq 512 bytes', 'LnkSta:	Speed 8GT/s, Width x16',
      'LnkCap2: Supported Link Speeds: 2.5-8GT/s, Crosslink- Retimer- 2Retimers- DRS-', 'LnkCtl2: Target Link Speed: 8GT/s, EnterCompliance- SpeedDis-',
      'Address: 0000000000000000  Data: 0000', 'Masking: 00000000  Pending: 00000000', 'Vector table: BAR=3 offset=00000000', 'PBA: BAR=3 offset=00001000',
    ]) expect(lines).toContain(line);
    expect(lines.filter((line) => line.includes('!!!') || line.includes('<access denied>'))).toEqual([]);
  });

  it('reads what a guest has programmed', () => {
    const space = new ConfigSpace(CARD);
    const at = (id: number): number => space.capabilityOffset(id)!;
    write(space, 0x10, 0, 0, 0x40, 0xfe, 1, 0, 0, 0);
    write(space, 0x18, 0x20, 0xc0, 0, 0);
    write(space, 0x04, 0x07, 0x04);
    write(space, 0x3c, 11);
    write(space, at(5) + 2, 0x21, 0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0x21, 0x40, 0, 0, 0b101);
    space.setMsiPending(2, true);
    write(space, at(0x11) + 2, 0, 0xc0);
    write(space, at(1) + 4, 3);
    write(space, at(0x10) + 8, 0x5f, 0x50);
    space.setInterruptStatus(true);
    const { lines } = lspci(space);
    for (const line of [
      'Control: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx+',
      'Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx+', 'Interrupt: pin A routed to IRQ 11',
      'Region 0: Memory at 1fe400000 (64-bit, prefetchable)', 'Region 2: I/O ports at c020', 'Status: D3 NoSoftRst+ PME-Enable- DSel=0 DScale=0 PME-',
      'Capabilities: [94] MSI: Enable+ Count=4/8 Maskable+ 64bit+', 'Address: 00000000fee00000  Data: 4021', 'Masking: 00000005  Pending: 00000004',
      'Capabilities: [ac] MSI-X: Enable+ Count=17 Masked+', 'DevCtl:	CorrErr+ NonFatalErr+ FatalErr+ UnsupReq+', 'MaxPayload 512 bytes, MaxReadReq 4096 bytes',
    ]) expect(lines).toContain(line);
  });

  it.each([[false, false, 'Maskable- 64bit-'], [true, false, 'Maskable- 64bit+'], [false, true, 'Maskable+ 64bit-']])('knows MSI with address64 %s and masking %s', (address64, masking, shape) => {
    const { lines } = lspci(new ConfigSpace({ sizeBytes: 256, vendorId: 1, deviceId: 2, classCode: 0, capabilities: [msiCapability({ vectors: 32, address64, masking })] }));
    expect(lines).toContain(`Capabilities: [40] MSI: Enable- Count=1/32 ${shape}`);
  });
});
