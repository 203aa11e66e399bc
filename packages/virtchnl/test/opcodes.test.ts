import { describe, expect, it } from 'vitest';
import { Opcode, opcodeName, Status, statusName, VirtchnlError } from '../src/index.ts';

describe('opcodes and statuses', () => {
  it('has the numbers that are often misremembered', () => {
    expect([Opcode.GET_SUPPORTED_RXDIDS, Opcode.GET_OFFLOAD_VLAN_V2_CAPS, Opcode.ENABLE_VLAN_STRIPPING_V2, Opcode.DISABLE_VLAN_INSERTION_V2]).toEqual([44, 51, 54, 57]);
  });

  it('names known and unknown numbers', () => {
    expect([opcodeName(6), opcodeName(200), statusName(-5), statusName(-64), statusName(-7)]).toEqual(['CONFIG_VSI_QUEUES', 'OP_200', 'ERR_PARAM', 'ERR_NOT_SUPPORTED', 'STATUS_-7']);
  });

  it('an error says what was expected and what was seen, and carries the status of its code', () => {
    const error = new VirtchnlError('ERR_VIRTCHNL_NOT_SUPPORTED', { opcode: 12, expected: 'the VLAN capability', seen: 'L2' });
    expect(error).toMatchObject({ status: Status.ERR_NOT_SUPPORTED, message: 'ADD_VLAN: expected the VLAN capability, saw L2' });
  });
});
