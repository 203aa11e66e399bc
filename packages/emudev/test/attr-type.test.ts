import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attribute, attrKey, EmudevRegistry, integerAttr, jsonAttr, macAttr, oneOfAttr, onOffAttr, regionKey, stringAttr, type AttrType, type Emudev } from '../src/index.ts';
import { toyProvider } from './fakes.ts';

const unicast = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((mac) => mac.with(0, mac[0]! & 0xfe));
/** Each ready-made type, its values, and what is none of them. */
const TYPES: readonly [string, AttrType<unknown>, fc.Arbitrary<unknown>, badValues: readonly unknown[], badTexts: readonly string[]][] = [
  ['integer', integerAttr({ min: -5, max: 1000 }), fc.integer({ min: -5, max: 1000 }), [-6, 1001, 1.5, '5', Number.NaN, undefined], ['', 'x', '1001', '1.5', '-6', '5 ', '0x', '1e2']],
  ['on/off', onOffAttr(), fc.boolean(), [1, 'on', null], ['', 'yes', 'ON']],
  ['string', stringAttr({ maxLength: 5 }), fc.string({ maxLength: 5 }), ['sixsix', 5], ['sixsix']],
  ['one of words', oneOfAttr(['red', 'green']), fc.constantFrom('red', 'green'), ['blue', 1], ['blue', '']],
  ['MAC', macAttr(), unicast, [new Uint8Array(5), Uint8Array.of(1, 0, 0, 0, 0, 0), '52:54:00:12:34:56'], ['52:54:00:12:34', '53:54:00:12:34:56', 'x', '52-54-00-12-34-56']],
  ['JSON', jsonAttr<number[]>(Array.isArray, '[…]'), fc.array(fc.integer()), [{}, 'x'], ['{}', '[', '']],
];

describe('attribute types', () => {
  it.each(TYPES)('%s: text and back is the same value; what is none is refused with what is wanted', (_name, type, values, badValues, badTexts) => {
    fc.assert(fc.property(values, (value) => {
      type.check(value);
      expect(type.parse(type.format(value))).toEqual(value);
    }), { numRuns: 100 });
    for (const bad of badValues) expect(() => { type.check(bad); }).toThrow(/^expected /);
    for (const bad of badTexts) expect(() => type.parse(bad)).toThrow(/^'.*' must be /s);
  });

  it('read what people type: hexadecimal, and a word nearly right is suggested', () => {
    expect(integerAttr({ min: 0, max: 255 }).parse('0xFf')).toBe(255);
    expect(() => oneOfAttr(['copper', 'fibre']).parse('fiber')).toThrow("'fiber' must be one of copper, fibre; did you mean 'fibre'?");
  });
});

describe('attributes of a device', () => {
  const LEVEL = attrKey('level', integerAttr({ min: 0, max: 9 }));
  const MODE = attrKey('mode', oneOfAttr(['fast', 'safe']));
  function device(): { emudev: Emudev; seen: unknown[] } {
    const seen: unknown[] = [];
    let level = 3;
    const provider = toyProvider({
      attributes: new Map([
        attribute(LEVEL, { get: () => level, set: (value) => { seen.push(value); level = value; } }, integerAttr({ min: 0, max: 5 })),
        attribute(MODE, { get: () => 'safe' as const }),
        attribute(attrKey<{ x: number }>('opaque'), { get: () => ({ x: 1 }), set: (value) => { seen.push(value); } }),
      ]),
      regionNames: () => ['page'],
    });
    return { emudev: new EmudevRegistry().allocate('emu_a', provider).device, seen };
  }
  const codeOf = (call: () => unknown): string => {
    try {
      call();
    } catch (error) {
      return (error as { code: string }).code;
    }
    return 'none';
  };

  it('have a text form by name, in the provider\'s own bounds', () => {
    const { emudev, seen } = device();
    expect([emudev.getAttrText('level'), emudev.getAttrText('mode')]).toEqual(['3', 'safe']);
    emudev.setAttrText('level', '0x5');
    expect(emudev.getAttr(LEVEL)).toBe(5);
    expect(codeOf(() => { emudev.setAttrText('level', '6'); })).toBe('EMUDEV_BAD_ARG');
    expect(seen).toEqual([5]);
  });

  it('of a wrong type or out of range are EMUDEV_BAD_ARG before the provider sees them', () => {
    const { emudev, seen } = device();
    for (const bad of [6, -1, '3', null]) expect(codeOf(() => { emudev.setAttr(LEVEL, bad as number); })).toBe('EMUDEV_BAD_ARG');
    // The provider has declared none: the key's.
    expect(codeOf(() => { emudev.setAttr(attrKey('opaque', integerAttr({ min: 0, max: 1 })), 2); })).toBe('EMUDEV_BAD_ARG');
    // What cannot be copied is no value.
    expect(codeOf(() => { emudev.setAttr(attrKey<unknown>('opaque'), () => 1); })).toBe('EMUDEV_BAD_ARG');
    expect(seen).toEqual([]);
  });

  it('that are read only, or have no text, are EMUDEV_UNSUPPORTED', () => {
    const { emudev } = device();
    expect(codeOf(() => { emudev.setAttr(MODE, 'fast'); })).toBe('EMUDEV_UNSUPPORTED');
    expect(codeOf(() => { emudev.setAttrText('mode', 'fast'); })).toBe('EMUDEV_UNSUPPORTED');
    expect(codeOf(() => emudev.getAttrText('opaque'))).toBe('EMUDEV_UNSUPPORTED');
    expect(codeOf(() => { emudev.setAttrText('opaque', '{}'); })).toBe('EMUDEV_UNSUPPORTED');
  });

  it('and regions that are unknown name the nearest, and all there are', () => {
    const { emudev } = device();
    expect(() => emudev.getAttrText('levle')).toThrow("emu_a has no attribute 'levle'; did you mean 'level'?; it has level, mode, opaque");
    expect(() => emudev.mapRegion(regionKey('pgae'))).toThrow("emu_a shares no region 'pgae'; did you mean 'page'?; it has page");
    expect(emudev.regionNames()).toEqual(['page']);
    expect(codeOf(() => emudev.mapRegion(regionKey('page'), 4097))).toBe('EMUDEV_RANGE');
    expect(emudev.mapRegion(regionKey('page'), 4096).sizeBytes).toBe(4096);
  });
});
