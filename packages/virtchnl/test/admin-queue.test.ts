import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  AdminFlag, AdminReturn, completedDescriptor, decodeAdminDescriptor, encodeAdminDescriptor, Opcode, receiveDescriptor, replyDescriptor, requestDescriptor, shutdownDescriptor, VirtchnlError,
} from '../src/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('admin-queue descriptor', () => {
  it('has its fields where hardware has them, addr_high before addr_low', () => {
    const descriptor = requestDescriptor(Opcode.CONFIG_VSI_QUEUES, 600, 0x1122_3344_5566_7788n);
    // flags SI|BUF|RD|LB, opcode, datalen, retval, cookie_high, cookie_low, param0, param1, addr_high, addr_low
    expect(hex(encodeAdminDescriptor(descriptor))).toBe('0036' + '0108' + '5802' + '0000' + '06000000' + '00000000' + '00000000' + '00000000' + '44332211' + '88776655');
  });

  it('carries a negative status in cookie_low', () => {
    const bytes = encodeAdminDescriptor(replyDescriptor(Opcode.ADD_VLAN, -5, 0, 0n));
    expect(hex(bytes.subarray(12, 16))).toBe('fbffffff');
    expect(decodeAdminDescriptor(bytes).cookieLow).toBe(-5);
  });

  it('sets BUF, RD and LB by length', () => {
    expect(requestDescriptor(Opcode.RESET_VF, 0, 0x1000n)).toMatchObject({ flags: AdminFlag.SI, address: 0n });
    expect(requestDescriptor(Opcode.VERSION, 512, 0x1000n).flags & AdminFlag.LB).toBe(0);
    expect(requestDescriptor(Opcode.VERSION, 513, 0x1000n).flags & AdminFlag.LB).toBe(AdminFlag.LB);
    expect(replyDescriptor(Opcode.VERSION, 0, 8, 1n).flags).toBe(AdminFlag.DD | AdminFlag.CMP | AdminFlag.BUF);
    expect(receiveDescriptor(0x2000n).flags).toBe(AdminFlag.BUF | AdminFlag.LB);
    expect(shutdownDescriptor(true).param0).toBe(1);
  });

  it('completes a sent descriptor without touching what the driver compares', () => {
    const sent = requestDescriptor(Opcode.VERSION, 8, 0x1000n);
    expect(completedDescriptor(sent, AdminReturn.OK)).toEqual({ ...sent, flags: sent.flags | AdminFlag.DD | AdminFlag.CMP });
    expect(completedDescriptor(sent, AdminReturn.ESRCH)).toMatchObject({ returnValue: 3, flags: sent.flags | AdminFlag.DD | AdminFlag.CMP | AdminFlag.ERR });
  });

  it('reads any 32 bytes and writes the same back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        expect(hex(encodeAdminDescriptor(decodeAdminDescriptor(bytes)))).toBe(hex(bytes));
      }),
    );
  });

  it('refuses every other length', () => {
    for (const length of [0, 16, 31, 33, 64]) {
      expect(() => decodeAdminDescriptor(new Uint8Array(length))).toThrow(VirtchnlError);
      expect(() => encodeAdminDescriptor({}, new Uint8Array(length))).toThrow(VirtchnlError);
    }
  });
});
