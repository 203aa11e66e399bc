/** What the kernel announces, whatever it is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pollDevices } from '../src/index.ts';
import { parseUevent } from '../src/kernel/uevent.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const mdev = { kind: 'mdev', uuid: UUID };
const message = (...parts: readonly string[]): string => parts.map((part) => `${part}\0`).join('');

describe('a uevent', () => {
  test('says a mediated device is there when its driver is bound, not before', () => {
    const path = `/devices/virtual/mtty/mtty/${UUID}`;
    expect(parseUevent(message(`add@${path}`, 'ACTION=add', 'SUBSYSTEM=mdev'))).toMatchObject({ kind: 'changed' });
    expect(parseUevent(message(`bind@${path}`, 'ACTION=bind', `DEVPATH=${path}`, 'SUBSYSTEM=mdev', 'DRIVER=mtty'))).toEqual({ kind: 'added', address: mdev });
    expect(parseUevent(message(`remove@${path}`, 'ACTION=remove', 'SUBSYSTEM=mdev'))).toEqual({ kind: 'removed', address: mdev });
  });

  test('of a PCI function names it, of a parent of mediated devices nobody', () => {
    expect(parseUevent(message('remove@/devices/pci0000:00/0000:00:05.0', 'SUBSYSTEM=pci'))).toEqual({ kind: 'removed', address: { kind: 'pci', domain: 0, bus: 0, device: 5, function: 0 } });
    expect(parseUevent(message('change@/devices/virtual/mtty/mtty', 'SUBSYSTEM=mtty', 'MDEV_STATE=unregistered'))).toEqual({ kind: 'changed' });
  });

  test('of anything else, or malformed, is none', () => {
    for (const text of [
      '', '\0', 'add@', '@/devices', 'libudev\0\xfe\xed\xca\xfe', message('add@/devices/virtual/vfio/0', 'SUBSYSTEM=vfio'), message(`bind@/devices/x/not-a-uuid`, 'SUBSYSTEM=mdev'),
      message(`bind@/devices/${UUID}`), message(`explode@/devices/${UUID}`, 'SUBSYSTEM=mdev'), message('add@/devices/0000:00:05.0/', 'SUBSYSTEM=pci'), `bind@/devices/${UUID}`,
      message('constructor@/devices/0000:00:05.0', 'SUBSYSTEM=pci'),
    ]) expect(parseUevent(text)).toBeUndefined();
  });

  test('never throws, and names a device only as the address that it is', () => {
    const part = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('SUBSYSTEM=pci', 'SUBSYSTEM=mdev', `add@/x/${UUID}`, 'bind@/0000:00:05.0', 'remove@/ffffffff:ff:1f.7', 'MDEV_STATE='));
    fc.assert(fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const event = parseUevent(parts.join('\0'));
      if (event?.address !== undefined) expect(['pci', 'mdev']).toContain(event.address.kind);
    }));
  });
});

test('polling goes on after a scan that failed, and stops when told to', async () => {
  const [failed, seen] = [Promise.withResolvers<unknown>(), Promise.withResolvers<unknown>()];
  let scans = 0;
  const polling = pollDevices(async () => {
    scans++;
    if (scans === 2) throw new Error('once');
    return scans < 3 ? [] : [{ address: { kind: 'vfio-user', path: '/x' } }];
  }, seen.resolve, failed.resolve, 1);
  expect(await failed.promise).toMatchObject({ message: 'once' });
  expect(await seen.promise).toMatchObject({ kind: 'added', address: { path: '/x' } });
  polling[Symbol.dispose]();
  const last = scans;
  await new Promise((resolve) => { setTimeout(resolve, 10); });
  expect(scans).toBe(last);
});
