/** CONFIG_PROMISCUOUS_MODE. Granted to every guest: what reaches it is the forwarding side's business. */
import { Capability, decodePromiscuousMode, Opcode, PROMISC_MULTICAST, PROMISC_UNICAST } from '@emudev/virtchnl';
import { DONE, operation, type Operation } from './operation.ts';

export const promiscOperations: readonly Operation[] = [
  operation(Opcode.CONFIG_PROMISCUOUS_MODE, Capability.L2, decodePromiscuousMode, (adapter, { vsiId, flags }, opcode) => {
    adapter.requireVsi(opcode, vsiId);
    adapter.setPromiscuous((flags & PROMISC_UNICAST) !== 0, (flags & PROMISC_MULTICAST) !== 0);
    return DONE;
  }),
];
