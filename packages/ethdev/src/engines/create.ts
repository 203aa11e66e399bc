import { EthdevError } from '../errors.ts';
import { MAX_GENERATED_FRAME_BYTES, MIN_GENERATED_FRAME_BYTES } from '../limits.ts';
import type { LcoreContext } from '../port.ts';
import type { Engine, EngineName, EngineSpec } from './engine.ts';
import { IcmpEchoEngine } from './icmpecho.ts';
import { IoEngine } from './io.ts';
import { MacEngine } from './mac.ts';
import { MacSwapEngine } from './macswap.ts';
import { RxOnlyEngine } from './rxonly.ts';
import { TxOnlyEngine } from './txonly.ts';

/** Every engine there is, as testpmd names them. */
export const ENGINE_NAMES: readonly EngineName[] = ['io', 'mac', 'macswap', 'rxonly', 'txonly', 'icmpecho'];

/** testpmd's default peer and source: locally administered, so no real card answers to them. */
const DEFAULT_SOURCE = Uint8Array.of(0x02, 0, 0, 0, 0, 0x01);
const DEFAULT_DESTINATION = Uint8Array.of(0x02, 0, 0, 0, 0, 0);

function sixBytes(what: string, mac: Uint8Array): Uint8Array {
  if (mac.length !== 6) throw new EthdevError('ERR_ETHDEV_CONFIG', `${what}: a MAC address has 6 bytes, got ${String(mac.length)}`);
  return mac;
}

/** Throws ERR_ETHDEV_CONFIG for addresses and sizes that make no frame. */
export function createEngine(context: LcoreContext, spec: EngineSpec): Engine {
  switch (spec.name) {
    case 'io':
      return new IoEngine();
    case 'mac':
      return new MacEngine(context, sixBytes('mac: source', spec.source), sixBytes('mac: destination', spec.destination));
    case 'macswap':
      return new MacSwapEngine(context);
    case 'rxonly':
      return new RxOnlyEngine();
    case 'txonly': {
      const frameBytes = spec.frameBytes ?? MIN_GENERATED_FRAME_BYTES;
      if (!Number.isInteger(frameBytes) || frameBytes < MIN_GENERATED_FRAME_BYTES || frameBytes > MAX_GENERATED_FRAME_BYTES) {
        throw new EthdevError('ERR_ETHDEV_CONFIG', `txonly: frames of ${String(frameBytes)} bytes: want ${String(MIN_GENERATED_FRAME_BYTES)} to ${String(MAX_GENERATED_FRAME_BYTES)}`);
      }
      return new TxOnlyEngine(context, frameBytes, sixBytes('txonly: source', spec.source ?? DEFAULT_SOURCE), sixBytes('txonly: destination', spec.destination ?? DEFAULT_DESTINATION));
    }
    case 'icmpecho':
      return new IcmpEchoEngine(context, sixBytes('icmpecho: mac', spec.mac));
    default:
      throw new EthdevError('ERR_ETHDEV_CONFIG', `no engine "${(spec as { name: string }).name}": want one of ${ENGINE_NAMES.join(', ')}`);
  }
}
