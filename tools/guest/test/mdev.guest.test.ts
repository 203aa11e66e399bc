/** The guest for user-space drivers: what their tests rely on is there. */
import { expect, test } from 'vitest';
import { bootMdevGuest } from '../src/mdev-guest.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

test('Node in the guest opens a serial card that was made there, through VFIO; then the card is removed', async () => {
  await using guest = await bootMdevGuest();
  const { output: parents } = await guest.run('ls /sys/class/mdev_bus');
  expect(parents.split('\n').filter((p) => p !== '').sort()).toEqual(['mbochs', 'mdpy', 'mtty']);

  await guest.run(`echo ${UUID} > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create`);
  const { output } = await guest.run(`node /workspace/tools/guest/test/in-guest/open-mdev.ts ${UUID}`);
  expect(JSON.parse(output)).toEqual({
    node: expect.stringMatching(/^v24\./) as string,
    apiVersion: 0,
    regions: 9,
    irqs: 5,
    // 4348:3253, class 07 00 02, revision 0x10
    config: '48435332010000021002000700000000',
  });

  await guest.run(`echo 1 > /sys/bus/mdev/devices/${UUID}/remove`);
  expect((await guest.run('ls /sys/bus/mdev/devices')).output).toBe('');

  // Nothing that runs in there can change the folders of this machine.
  expect((await guest.run('touch /workspace/tools/guest/written', { check: false })).output).toMatch(/Read-only file system/);
});
