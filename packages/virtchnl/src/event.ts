/** EVENT (17), device to driver only, always 16 bytes (DPDK refuses shorter ones). */
import { Opcode } from './opcodes.ts';
import { exactLength, MessageWriter, viewOf } from './wire.ts';

/** VIRTCHNL_EVENT_*: what has happened. */
export const EventCode = { LINK_CHANGE: 1, RESET_IMPENDING: 2, PF_DRIVER_CLOSE: 3 } as const;
/** PF_EVENT_SEVERITY_*: CERTAIN_DOOM goes with events after which the card is of no use until it is reset. */
export const EventSeverity = { INFO: 0, CERTAIN_DOOM: 255 } as const;

/** Bytes of an EVENT (struct virtchnl_pf_event). */
export const EVENT_BYTES = 16;

/** An EVENT by its meaning; 'other' is any code that is not in `EventCode`. */
export type VirtchnlEvent =
  | { readonly kind: 'link-change'; readonly up: boolean; /** 0 = unknown. */ readonly speedMbps: number }
  | { readonly kind: 'reset-impending' }
  | { readonly kind: 'driver-close' }
  | { readonly kind: 'other'; readonly code: number; readonly severity: number };

/** The link speeds the protocol could name before ADV_LINK_SPEED, slowest first. */
const LEGACY_SPEEDS: readonly { readonly mbps: number; readonly code: number }[] = [
  { mbps: 100, code: 2 },
  { mbps: 1_000, code: 4 },
  { mbps: 2_500, code: 1 },
  { mbps: 5_000, code: 128 },
  { mbps: 10_000, code: 8 },
  { mbps: 20_000, code: 32 },
  { mbps: 25_000, code: 64 },
  { mbps: 40_000, code: 16 },
];

/** The fastest nameable speed that is not above `mbps`; 0 (unknown) below 100 Mb/s. */
export function legacyLinkSpeed(mbps: number): number {
  return LEGACY_SPEEDS.findLast((speed) => speed.mbps <= mbps)?.code ?? 0;
}

/** `advancedLinkSpeed`: ADV_LINK_SPEED was granted. */
export function encodeEvent(event: VirtchnlEvent, advancedLinkSpeed: boolean): Uint8Array {
  const out = new MessageWriter(Opcode.EVENT, EVENT_BYTES);
  switch (event.kind) {
    case 'link-change':
      out.i32(0, EventCode.LINK_CHANGE);
      out.u32(4, advancedLinkSpeed ? event.speedMbps : legacyLinkSpeed(event.speedMbps));
      out.u8(8, event.up ? 1 : 0);
      out.i32(12, EventSeverity.INFO);
      break;
    case 'reset-impending':
      out.i32(0, EventCode.RESET_IMPENDING);
      out.i32(12, EventSeverity.CERTAIN_DOOM);
      break;
    case 'driver-close':
      out.i32(0, EventCode.PF_DRIVER_CLOSE);
      out.i32(12, EventSeverity.CERTAIN_DOOM);
      break;
    case 'other':
      out.i32(0, event.code);
      out.i32(12, event.severity);
      break;
  }
  return out.bytes;
}

/** `advancedLinkSpeed`: ADV_LINK_SPEED was granted. Throws VirtchnlError (-5) unless the payload has 16 bytes. */
export function decodeEvent(payload: Uint8Array, advancedLinkSpeed: boolean): VirtchnlEvent {
  exactLength(Opcode.EVENT, payload, EVENT_BYTES);
  const view = viewOf(payload);
  const code = view.getInt32(0, true);
  switch (code) {
    case EventCode.LINK_CHANGE: {
      const speed = view.getUint32(4, true);
      const speedMbps = advancedLinkSpeed ? speed : (LEGACY_SPEEDS.find((s) => s.code === speed)?.mbps ?? 0);
      return { kind: 'link-change', up: view.getUint8(8) !== 0, speedMbps };
    }
    case EventCode.RESET_IMPENDING:
      return { kind: 'reset-impending' };
    case EventCode.PF_DRIVER_CLOSE:
      return { kind: 'driver-close' };
    default:
      return { kind: 'other', code, severity: view.getInt32(12, true) };
  }
}
