import { describe, expect, it } from 'vitest';
import { decodeEtherAddrList, encodeEtherAddrList, EtherAddrType, MAX_ETH_ADDRS, Opcode, VirtchnlError } from '../src/index.ts';

const list = (count: number): Parameters<typeof encodeEtherAddrList>[0] => ({
  vsiId: 1,
  addresses: Array.from({ length: count }, (_, i) => ({ address: Uint8Array.of(2, 0, 0, 0, i >> 8, i & 255), type: EtherAddrType.EXTRA })),
});

describe('ADD_ETH_ADDR', () => {
  it('is sent as 12 + 8 n bytes, as many as MAX_ETH_ADDRS in one message', () => {
    expect(encodeEtherAddrList(list(3))).toHaveLength(12 + 24);
    expect(encodeEtherAddrList(list(MAX_ETH_ADDRS))).toHaveLength(12 + 8 * MAX_ETH_ADDRS);
    expect(() => encodeEtherAddrList(list(MAX_ETH_ADDRS + 1))).toThrow(VirtchnlError);
  });

  it('takes only the low two bits of the type byte', () => {
    const bytes = encodeEtherAddrList({ vsiId: 1, addresses: [{ address: new Uint8Array(6).fill(2), type: EtherAddrType.PRIMARY }] });
    bytes[10] = 0xfd;
    expect(decodeEtherAddrList(bytes, Opcode.ADD_ETH_ADDR).addresses[0]?.type).toBe(EtherAddrType.PRIMARY);
  });

  it('gives out copies: the message may be overwritten afterwards', () => {
    const bytes = encodeEtherAddrList(list(1));
    const { addresses } = decodeEtherAddrList(bytes, Opcode.ADD_ETH_ADDR);
    bytes.fill(0xff);
    expect([...(addresses[0]?.address ?? [])]).toEqual([2, 0, 0, 0, 0, 0]);
  });

  it('refuses an address that is not six bytes', () => {
    expect(() => encodeEtherAddrList({ vsiId: 1, addresses: [{ address: new Uint8Array(5), type: 0 }] })).toThrow(VirtchnlError);
  });
});
