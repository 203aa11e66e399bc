/** The devices in a stock guest: Linux' own driver on the GPIO card, and a shell at the registers of the others. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Guest } from '@emudev/guest';
import { Window } from '@emudev/dma';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { GpioDevice, InterruptDevice, LspciFixture } from '../src/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'examples-'));
const window = Window.open();
const servers = [new GpioDevice(), new InterruptDevice('intx'), new InterruptDevice('msix'), new LspciFixture()].map((device) => new VfioUserServer(device, { window }));
let guest: Guest;

beforeAll(async () => {
  const sockets = servers.map(({ device }) => join(folder, `${device.name}.sock`));
  for (const [i, server] of servers.entries()) await server.listen(sockets[i]!);
  guest = await Guest.boot({ sockets });
});

afterAll(async () => {
  await guest[Symbol.asyncDispose]();
  for (const server of servers) await server.close();
  rmSync(folder, { recursive: true });
});

const run = async (script: string): Promise<string> => (await guest.run(script)).output;

test('gpio-pci-idio-16 drives the GPIO card, and hears its interrupt', async () => {
  expect(await run('lspci -k -d 494f: 2>/dev/null')).toMatch(/Kernel driver in use: pci-idio-16/);
  // All inputs are asked for: the card interrupts for a change of any.
  const output = await run(`
    cd /sys/class/gpio
    base=$(cat gpiochip*/base)
    echo $base > export
    for i in $(seq 0 15); do echo $((base + 16 + i)) > export; echo both > IIN$i/edge; done
    cat IIN0/value
    for level in 1 0 1 0 1; do echo $level > OUT0/value; cat IIN0/value; done
    awk '$NF == "gpiolib" { print "interrupts", $2 + $3; exit }' /proc/interrupts`);
  // Set once, twice, three times: high only when that is a multiple of three. Two changes.
  expect(output.trim().split('\n').map((line) => line.trim())).toEqual(['1', '0', '0', '0', '0', '1', 'interrupts 2']);
});

test('INTx stays up until it is acknowledged, and waits while COMMAND disables it', async () => {
  const output = await run(`
    echo e0de 0010 > /sys/bus/pci/drivers/uio_pci_generic/new_id
    bar=0x$(setpci -d e0de:0010 BASE_ADDRESS_0)
    exec 3</dev/uio0
    devmem $((bar + 0x60)) 32 1
    dd bs=4 count=1 <&3 2>/dev/null | od -An -tu4
    setpci -d e0de:0010 STATUS COMMAND
    devmem $((bar + 0x64)) 32 1
    setpci -d e0de:0010 STATUS`);
  // uio_pci_generic has looked at Interrupt Status (bit 3) and set Interrupt Disable (bit 10): the device is as the kernel left it.
  const [count, pending, command, after] = output.trim().split('\n').map((line) => line.trim());
  expect(count).toBe('1');
  expect([Number.parseInt(pending!, 16) & 8, Number.parseInt(command!, 16) & 0x400, Number.parseInt(after!, 16) & 8]).toEqual([8, 0x400, 0]);
});

test('the guest\'s memory is copied in and out', async () => {
  const output = await run(`
    setpci -d e0de:0012 COMMAND=6:6
    bar=0x$(setpci -d e0de:0012 BASE_ADDRESS_0)
    buffer=0x$(setpci -d e0de:0012 BASE_ADDRESS_2)
    devmem $((bar + 0x80)) 32 0xf0000
    devmem $((bar + 0x90)) 32 0x1000
    devmem $((bar + 0x98)) 32 1
    while [ $(devmem $((bar + 0x98)) 32) != 0x00000000 ]; do :; done
    devmem $((bar + 0x20)) 32
    for at in 0 0xffc; do devmem $((buffer + at)) 32; devmem $((0xf0000 + at)) 32; done`);
  const [status, first, expectedFirst, last, expectedLast] = output.trim().split('\n');
  expect([status, first, last]).toEqual(['0x00000000', expectedFirst, expectedLast]);
});

test('lspci shows every capability', async () => {
  const output = await run('lspci -vv -d e0de:0002 2>/dev/null');
  for (const line of [
    '[40] Power Management version 3', '[48] Vendor Specific Information: Len=10 <?>', '[58] Express (v2)', '[100 v1] Device Serial Number ca-fe-ba-be-de-ad-be-ef',
    '[10c v1] Vendor Specific Information: ID=0001 Rev=1 Len=015 <?>', '[400 v1] Vendor Specific Information: ID=0002 Rev=2 Len=015 <?>', 'FLReset+',
  ]) expect(output).toContain(line);
});
