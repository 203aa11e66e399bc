/**
 * Our driver on our device with two kernels between them: a device process serves the card, QEMU plugs it into a guest, the guest's kernel gives it to
 * vfio-pci behind an IOMMU, and this driver, in the guest, sends frames that come back from the far end.
 */
import { expect, test } from 'vitest';
import { bootMdevGuest } from '@emudev/guest';
import { DeviceProcess } from './two-processes.ts';

const FRAMES = 500;

test('frames go through a guest kernel\'s vfio-pci and come back as they were sent', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  await using guest = await bootMdevGuest({ kernel: '6.1', iommu: true, sockets: [device.socket] });
  const { output: found } = await guest.run('node /workspace/apps/pci/dist/cli.js list --json');
  const card = (JSON.parse(found) as { address: string; ids: { device: number }; kernelDriver: string }[]).find(({ ids }) => ids.device === 0x1889)!;
  expect(card.kernelDriver).toBe('iavf');
  await guest.run(`node /workspace/apps/pci/dist/cli.js bind ${card.address}`);

  // Twice: the second finds the card as the first has left it.
  for (let run = 0; run < 2; run++) {
    const { output } = await guest.run(`node /workspace/packages/iavf-pmd/test/in-guest/echo-frames.ts ${card.address} ${FRAMES}`, { timeoutMs: 150_000 });
    expect(JSON.parse(/^@result (.*)$/m.exec(output)?.[1] ?? JSON.stringify(output))).toMatchObject({ trapped: false, link: { up: true }, port: [2 * FRAMES, 2 * FRAMES, 0, 0] });
  }
  // The stock driver gets it back, and works.
  const { output: back } = await guest.run(`node /workspace/apps/pci/dist/cli.js unbind ${card.address}`);
  expect(back).toContain('iavf');
  await guest.run('ip link set eth0 up');
  await guest.until('cat /sys/class/net/eth0/carrier', (carrier) => carrier.trim() === '1');
  expect(device.running).toBe(true);
});
