/**
 * The suite on devices of a real kernel: its sample card mtty, a mediated device, in which the vendor's driver plays the card; and a 16550 that QEMU
 * emulates, as a PCI function bound to vfio-pci.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bootMdevGuest, type Guest } from '@emudev/guest';
import { serialSuite, type SerialRig } from './serial-suite.ts';

const PCI = 'node /workspace/apps/pci/dist/cli.js';
/** QEMU's pci-serial, where nothing else is. */
const FUNCTION = '0000:00:1d.0';
const CARDS = [
  { what: 'mtty', device: 'mtty/mtty-2', ports: 2, interrupts: ['intx', 'msi'] },
  { what: 'a card of QEMU, through vfio-pci', device: FUNCTION, ports: 1, interrupts: ['intx'] },
] as const;
let guest: Guest;
beforeAll(async () => {
  guest = await bootMdevGuest({ kernel: '6.1', iommu: true, extraArgs: ['-chardev', 'null,id=line', '-device', 'pci-serial,chardev=line,addr=0x1d'] });
  await guest.run(`${PCI} bind ${FUNCTION}`);
});
afterAll(() => guest?.[Symbol.asyncDispose]());

for (const { what, device, ports, interrupts } of CARDS) {
  describe(what, () => {
    let outcomes: Record<string, string> = {};
    beforeAll(async () => {
      const { output } = await guest.run(`node /workspace/packages/serial-pmd/test/in-guest/run-suite.ts ${device} ${ports} ${interrupts.join(' ')}`, { timeoutMs: 180_000 });
      outcomes = JSON.parse(/^@outcomes (.*)$/m.exec(output)?.[1] ?? `{"all":${JSON.stringify(output)}}`) as Record<string, string>;
    });
    const rig: SerialRig = { open: () => Promise.reject(new Error('only in the guest')), ports, interrupts };
    for (const { id, title } of serialSuite(rig)) test(title, () => { expect(outcomes[id] ?? outcomes['all']).toBe('ok'); });
  });
}
