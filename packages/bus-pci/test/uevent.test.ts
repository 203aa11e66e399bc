import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseUevent } from '../src/kernel/uevent.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const mdev = (kind: string): unknown => ({ kind, address: { kind: 'mdev', uuid: UUID } });
const message = (...strings: string[]): string => `${strings.join('\0')}\0`;

test('only what is bound can be opened; what has gone is removed', () => {
  const of = (action: string): unknown => parseUevent(message(`${action}@/devices/virtual/mtty/mtty/${UUID}`, `ACTION=${action}`, 'SUBSYSTEM=mdev', 'SEQNUM=7'));
  expect(['add', 'bind', 'change', 'unbind', 'remove'].map(of)).toEqual([mdev('changed'), mdev('added'), mdev('changed'), mdev('changed'), mdev('removed')]);
  expect(parseUevent(message('remove@/devices/pci0000:00/0000:00:1d.0', 'SUBSYSTEM=pci'))).toEqual({ kind: 'removed', address: { kind: 'pci', domain: 0, bus: 0, device: 0x1d, function: 0 } });
  expect(parseUevent(message('change@/devices/virtual/mtty/mtty', 'MDEV_STATE=unregistered', 'SUBSYSTEM=mtty'))).toEqual({ kind: 'changed' });
});

test.each([
  '', '\0', 'bind', 'bind@', `bind@nowhere/${UUID}\0SUBSYSTEM=mdev\0`, `bind@/x/${UUID}\0`, 'bind@/x/not-a-uuid\0SUBSYSTEM=mdev\0', 'bind@/x/0000:00:1d.9\0SUBSYSTEM=pci\0', `offline@/x/${UUID}\0SUBSYSTEM=mdev\0`,
  `bind@/devices/virtual/mtty/mtty/${UUID}/vfio-dev/vfio0\0SUBSYSTEM=vfio-dev\0`, `toString@/x/${UUID}\0SUBSYSTEM=mdev\0`, 'libudev\0\xfe\xed\xca\xfe',
])('%j says nothing about devices', (text) => {
  expect(parseUevent(text)).toBeUndefined();
});

test('whatever comes is an event or nothing', () => {
  fc.assert(fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom('bind@/', '@', 'SUBSYSTEM=pci', 'SUBSYSTEM=mdev', `/${UUID}`, 'MDEV_STATE=', '\0')), { maxLength: 8 }), (parts) => {
    const event = parseUevent(parts.join(''));
    expect(event === undefined || ['added', 'removed', 'changed'].includes(event.kind)).toBe(true);
  }));
});
