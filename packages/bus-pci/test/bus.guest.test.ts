/** The bus on a real kernel: mediated devices that are made, and a PCI function that is given to vfio-pci and taken back while it is in use. */
import { expect, test } from 'vitest';
import { bootMdevGuest } from '@emudev/guest';

test('devices that the kernel announces are driven, and given back when it asks for them', async () => {
  await using guest = await bootMdevGuest({ iommu: true, extraArgs: ['-device', 'e1000e,addr=0x1d'] });
  const { output } = await guest.run('node /workspace/packages/bus-pci/test/in-guest/run-bus.ts', { timeoutMs: 180_000, check: false });
  const line = /^@bus (.*)$/m.exec(output)?.[1];
  expect(line, output).toBeDefined();
  const { events, left } = JSON.parse(line!) as { readonly events: readonly string[]; readonly left: number };
  const [uuid, e1000e] = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '0000:00:1d.0'];
  expect(events).toEqual([`driven ${uuid}`, `driven ${e1000e}`, `wanted-back ${e1000e}`, `undriven ${e1000e}`, `undriven ${uuid}`]);
  expect(left).toBe(0);
});
