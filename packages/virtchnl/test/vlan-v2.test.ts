import { describe, expect, it } from 'vitest';
import { encodeVlanCaps, encodeVlanFilterListV2, encodeVlanSetting, NO_VLAN_TAG, VlanSupport } from '../src/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('VLAN_V2', () => {
  it('the single-VLAN offer is the 40 bytes of the specification', () => {
    const tag1 = VlanSupport.ETHERTYPE_8100 | VlanSupport.TAG_LOCATION_L2TAG1;
    const toggled = (tag1 | VlanSupport.TOGGLE) >>> 0;
    const caps = encodeVlanCaps({
      filtering: { outer: 0, inner: VlanSupport.ETHERTYPE_8100, ethertypeInit: VlanSupport.ETHERTYPE_8100, maxFilters: 4094 },
      stripping: { outer: 0, inner: toggled },
      insertion: { outer: 0, inner: toggled },
      ethertypeInit: VlanSupport.ETHERTYPE_8100,
      ethertypeMatch: 0,
    });
    expect(hex(caps)).toBe('000000000100000001000000fe0f0000' + '00000000010100800000000001010080' + '0100000000000000');
  });

  it('a filter list is 8 + 32 n bytes, inner tag first', () => {
    const bytes = encodeVlanFilterListV2({ vportId: 1, filters: [{ inner: { tci: 100, tciMask: 0, tpid: 0x8100 }, outer: NO_VLAN_TAG }] });
    expect(bytes).toHaveLength(40);
    expect(hex(bytes.subarray(0, 16))).toBe('0100010000000000' + '6400000000810000');
  });

  it('a setting is 16 bytes, outer ethertype first', () => {
    expect(hex(encodeVlanSetting({ vportId: 1, outerEthertype: 0, innerEthertype: 1 }))).toBe('00000000010000000100' + '000000000000');
  });
});
