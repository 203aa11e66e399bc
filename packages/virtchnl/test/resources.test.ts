import { describe, expect, it } from 'vitest';
import { Capability, capabilityNames, decodeVfResources, encodeGetVfResources, encodeVersion, encodeVfResources, sriovVsi, VirtchnlError, VSI_SRIOV, type VfResources } from '../src/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const RESOURCES: VfResources = {
  queuePairs: 4,
  maxVectors: 5,
  maxFrameBytes: 9728,
  capabilities: 0x000c_80a1,
  rssKeyBytes: 52,
  rssLutEntries: 64,
  vsis: [{ vsiId: 1, queuePairs: 4, type: VSI_SRIOV, qsetHandle: 0, mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56) }],
};

describe('VERSION', () => {
  it('is 1.1 as it has always looked', () => {
    expect(hex(encodeVersion())).toBe('0100000001000000');
  });
});

describe('GET_VF_RESOURCES', () => {
  it('replies with the bytes drivers know', () => {
    expect(hex(encodeVfResources(RESOURCES))).toBe('0100040005000026a1800c003400000040000000' + '010004000600000000005254' + '00123456');
  });

  it('keeps capability bit 31 unsigned', () => {
    const signed = Capability.PTP | Capability.L2;
    expect(signed).toBeLessThan(0);
    expect(hex(encodeGetVfResources(signed))).toBe('01000080');
    expect(capabilityNames(signed)).toEqual(['L2', 'PTP']);
  });

  it('reads the reply of old devices, which is one VSI longer', () => {
    const old = new Uint8Array(52);
    old.set(encodeVfResources(RESOURCES));
    expect(decodeVfResources(old)).toEqual(RESOURCES);
  });

  it('finds the SR-IOV VSI, and says so when there is none', () => {
    expect(sriovVsi(RESOURCES).vsiId).toBe(1);
    const other = { ...RESOURCES, vsis: [{ ...RESOURCES.vsis[0]!, type: 0 }] };
    expect(() => sriovVsi(other)).toThrow(VirtchnlError);
  });
});
