import { expect, test } from 'vitest';
import { echo } from './echo.ts';
import { DeviceProcess, Driver } from './two-processes.ts';

test('a million frames of all sizes come back as they were sent', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  await using driver = await Driver.start(device.socket);
  expect(driver.port.link()).toMatchObject({ up: true });
  expect([driver.port.trapsDoorbells, driver.port.rxDescriptorBytes]).toEqual([false, 16]);
  await echo(driver, 1_000_000, [60, 61, 64, 127, 128, 594, 1024, 1514], 256);
  expect(driver.port.stats()).toMatchObject({ ipackets: 1_000_000n, opackets: 1_000_000n, ierrors: 0n, oerrors: 0n });
  const stats = await driver.port.deviceStats();
  expect([stats.rxUnicast, stats.txUnicast, stats.rxDiscards, stats.txErrors]).toEqual([1_000_000n, 1_000_000n, 0n, 0n]);
});

test('jumbo frames, in several buffers both ways', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  await using driver = await Driver.start(device.socket, { mtu: 9000 });
  await echo(driver, 20_000, [2048, 2049, 4096, 9014, 60, 9018], 64);
  expect(driver.port.stats()).toMatchObject({ ierrors: 0n, oerrors: 0n, rxNombuf: 0n });
});

test('Rx descriptors of 32 bytes, as other drivers have them', async () => {
  await using device = await DeviceProcess.start('--queues', '1');
  await using driver = await Driver.start(device.socket, { mtu: 9000, shortRxDescriptors: false });
  expect(driver.port.rxDescriptorBytes).toBe(32);
  await echo(driver, 100_000, [60, 1514, 4096, 9014], 64);
  expect(driver.port.stats()).toMatchObject({ ierrors: 0n, oerrors: 0n, rxNombuf: 0n });
});

test('trapped doorbells carry frames, too', async () => {
  await using device = await DeviceProcess.start('--queues', '1', '--doorbell', 'trap');
  await using driver = await Driver.start(device.socket);
  expect(driver.port.trapsDoorbells).toBe(true);
  await echo(driver, 20_000, [60, 1514], 128);
});
