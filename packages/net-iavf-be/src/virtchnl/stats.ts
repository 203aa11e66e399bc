/** GET_STATS: the guest's directions. */
import { decodeQueueSelect, encodeEthStats, Opcode } from '@emudev/virtchnl';
import { operation, type Operation } from './operation.ts';

export const statsOperations: readonly Operation[] = [
  // Only the VSI counts; FreeBSD leaves the other fields undefined.
  operation(Opcode.GET_STATS, 0, decodeQueueSelect, (adapter, { vsiId }, opcode) => {
    adapter.requireVsi(opcode, vsiId);
    return { payload: encodeEthStats(adapter.statistics.guest()) };
  }),
];
