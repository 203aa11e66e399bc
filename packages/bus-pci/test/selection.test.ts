import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BusError, parseAddress, parseSelector, Selection } from '../src/index.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const wanted = (selection: Selection): string[] => ['06:0d.0', '06:0d.1', UUID, '/run/vm0.sock'].filter((text) => selection.of(parseAddress(text)) !== undefined);

test('without a list every device is wanted', () => {
  expect(wanted(Selection.parse({}))).toHaveLength(4);
});

test('an allow list wants what it names, with the arguments it gives', () => {
  const selection = Selection.parse({ allow: ['0000:06:0d.0,queues=4,rss', UUID.toUpperCase()] });
  expect(wanted(selection)).toEqual(['06:0d.0', UUID]);
  expect(selection.of(parseAddress('06:0d.0'))?.args).toEqual([['queues', '4'], ['rss', undefined]]);
  expect(selection.allowed.map((s) => s.address.kind)).toEqual(['pci', 'mdev']);
});

test('a block list wants everything else', () => {
  const selection = Selection.parse({ block: ['6:d.1', 'vfio-user:/run/vm0.sock'] });
  expect(wanted(selection)).toEqual(['06:0d.0', UUID]);
  expect(selection.allowed).toEqual([]);
});

test('the layered form says the same', () => {
  expect(parseSelector('bus=pci,addr=06:0d.0,queues=[1,2]')).toEqual(parseSelector('06:0d.0,queues=[1,2]'));
  expect(parseSelector(`bus=pci,addr=${UUID}`).address).toEqual({ kind: 'mdev', uuid: UUID });
});

test.each([
  [{ allow: ['06:0d.0'], block: ['06:0d.1'] }, 'one kind of list'],
  [{ allow: ['06:0d.0', '0000:6:d.0,a=1'] }, 'listed twice'],
  [{ block: ['06:0d.0,a=1'] }, 'takes no arguments'],
  [{ allow: ['06:0d.0,=1'] }, 'no key'],
  [{ allow: ['bus=usb,addr=06:0d.0'] }, 'this is the bus pci'],
  [{ allow: ['bus=pci'] }, '0 keys addr'],
  [{ allow: ['bus=pci,addr=06:0d.0,addr=06:0d.1'] }, '2 keys addr'],
  [{ allow: ['x'.repeat(5000)] }, 'at most 4096'],
])('%j is refused', (text, message) => {
  expect(() => Selection.parse(text)).toThrow(expect.objectContaining({ code: 'ERR_BUS_SELECTION', message: expect.stringContaining(message) as string }));
});

test('arbitrary text is a selector or a BusError', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.string().map((s) => `bus=${s}`), fc.string().map((s) => `06:0d.0,${s}`)), (text) => {
    try { parseSelector(text); } catch (error) { expect(error).toBeInstanceOf(BusError); }
  }));
});
