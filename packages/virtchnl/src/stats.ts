/** The reply to GET_STATS (15): twelve counters. The request is a QueueSelect of which only the VSI counts. */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

/** The driver's directions: rx is what the guest receives. */
export interface EthStats {
  readonly rxBytes: bigint;
  readonly rxUnicast: bigint;
  readonly rxMulticast: bigint;
  readonly rxBroadcast: bigint;
  readonly rxDiscards: bigint;
  readonly rxUnknownProtocol: bigint;
  readonly txBytes: bigint;
  readonly txUnicast: bigint;
  readonly txMulticast: bigint;
  readonly txBroadcast: bigint;
  readonly txDiscards: bigint;
  readonly txErrors: bigint;
}

const ORDER: readonly (keyof EthStats)[] = [
  'rxBytes', 'rxUnicast', 'rxMulticast', 'rxBroadcast', 'rxDiscards', 'rxUnknownProtocol',
  'txBytes', 'txUnicast', 'txMulticast', 'txBroadcast', 'txDiscards', 'txErrors',
];

/** Bytes of a reply to GET_STATS (struct virtchnl_eth_stats). */
export const ETH_STATS_BYTES: number = 8 * ORDER.length;

/** Device: 96 bytes, u64 each. */
export function encodeEthStats(stats: EthStats): Uint8Array {
  const out = new MessageWriter(Opcode.GET_STATS, ETH_STATS_BYTES);
  ORDER.forEach((name, i) => {
    out.u64(8 * i, stats[name]);
  });
  return out.bytes;
}

/** Throws VirtchnlError (-5) unless the payload has 96 bytes. */
export function decodeEthStats(payload: Uint8Array): EthStats {
  exactLength(Opcode.GET_STATS, payload, ETH_STATS_BYTES);
  const view = viewOf(payload);
  const at = (name: keyof EthStats): bigint => view.getBigUint64(8 * ORDER.indexOf(name), true);
  return {
    rxBytes: at('rxBytes'),
    rxUnicast: at('rxUnicast'),
    rxMulticast: at('rxMulticast'),
    rxBroadcast: at('rxBroadcast'),
    rxDiscards: at('rxDiscards'),
    rxUnknownProtocol: at('rxUnknownProtocol'),
    txBytes: at('txBytes'),
    txUnicast: at('txUnicast'),
    txMulticast: at('txMulticast'),
    txBroadcast: at('txBroadcast'),
    txDiscards: at('txDiscards'),
    txErrors: at('txErrors'),
  };
}
