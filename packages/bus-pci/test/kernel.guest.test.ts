/** The integration cases on a real kernel: stock Debian, its sample mediated devices, QEMU's e1000e and NVMe controller behind an IOMMU. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bootMdevGuest, type Guest } from '@emudev/guest';
import { kernelCases } from './in-guest/kernel-cases.ts';

const SCRIPTS = '/workspace/packages/bus-pci/test/in-guest';
let guest: Guest;
let outcomes: Record<string, string> = {};

beforeAll(async () => {
  guest = await bootMdevGuest({
    kernel: '6.1', iommu: true,
    extraArgs: ['-device', 'e1000e,addr=0x1d', '-blockdev', 'null-co,node-name=nothing,size=1048576', '-device', 'nvme,addr=0x1e,drive=nothing,serial=1'],
  });
  const { output } = await guest.run(`node ${SCRIPTS}/run-cases.ts`, { timeoutMs: 180_000 });
  outcomes = JSON.parse(/^@outcomes (.*)$/m.exec(output)?.[1] ?? `{"all":${JSON.stringify(output)}}`) as Record<string, string>;
});
afterAll(() => guest?.[Symbol.asyncDispose]());

for (const { id, title } of kernelCases) test(`case ${id}: ${title}`, () => { expect(outcomes[id] ?? outcomes['all']).toBe('ok'); });
