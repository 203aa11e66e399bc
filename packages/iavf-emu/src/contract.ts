/**
 * The contract of the iavf family: what a provider of an iavf card and its back end agree on. No dependency at run time
 * but the constructors of keys and of what their values may be.
 */
import { attrKey, channelKey, integerAttr, jsonAttr, macAttr, regionKey, type AttrKey, type ChannelKey, type RegionKey } from '@emudev/emudev';

/** Device type of the family: what a back end looks for in an emulated device. */
export const IAVF_DEV_TYPE = 'iavf';
/** Version of this contract; provider and back end must agree on it. */
export const IAVF_CONTRACT_VERSION = 1;
/** Type and version as one value, for both sides to state. */
export const IAVF_CONTRACT: { readonly devType: string; readonly version: number } = { devType: IAVF_DEV_TYPE, version: IAVF_CONTRACT_VERSION };

/** Queue number of the admin send queue (ATQ). Queue numbers are doorbell numbers too. The admin queues are the provider's own: it hands messages up, not rings. */
export const ADMIN_SEND_QUEUE = 0;
/** Queue number of the admin receive queue (ARQ). */
export const ADMIN_RECEIVE_QUEUE = 1;
/** Queue number of a pair's transmit queue (the guest's direction). */
export const txQueueId = (pair: number): number => 2 + 2 * pair;
/** Queue number of a pair's receive queue (the guest's direction). */
export const rxQueueId = (pair: number): number => 3 + 2 * pair;

/** Most queue pairs a card has. */
export const MAX_QUEUE_PAIRS = 16;
/** Largest frame without FCS the device carries (max_mtu of GET_VF_RESOURCES is a frame size). */
export const MAX_FRAME_BYTES = 9728;
/** Vector 0 is admin queue and link; vector k belongs to what CONFIG_IRQ_MAP says. */
export const MISC_VECTOR = 0;

/** What the guest is told of the link. */
export interface LinkState {
  readonly up: boolean;
  readonly speedMbps: number;
}

function isLinkState(value: unknown): boolean {
  const link = value as Partial<LinkState> | null;
  return typeof link?.up === 'boolean' && Number.isSafeInteger(link.speedMbps) && link.speedMbps! >= 0;
}

/** Six bytes; the provisioned address. One that the guest puts in its place is the back end's to remember. */
export const ATTR_MAC: AttrKey<Uint8Array> = attrKey('mac', macAttr());
/** The link, as the back end has last said. */
export const ATTR_LINK: AttrKey<LinkState> = attrKey('link', jsonAttr(isLinkState, '{"up":BOOLEAN,"speedMbps":INTEGER}'));
/** Queue pairs granted to the guest (1..16). */
export const ATTR_QUEUE_PAIRS: AttrKey<number> = attrKey('queuePairs', integerAttr({ min: 1, max: MAX_QUEUE_PAIRS }));
/** VFGEN_RSTAT as the guest reads it: 0 in progress, 1 completed, 2 active. Read only. */
export const ATTR_RESET_STATE: AttrKey<number> = attrKey('resetState', integerAttr({ min: 0, max: 2 }));

/** The mapped pages of BAR0, as they lie in the window: QTX_TAIL at 0x0000, QRX_TAIL and VFINT_ITRN1 at 0x2000, VFINT_DYN_CTLN1 at 0x3000. */
export const REGION_DOORBELLS: RegionKey = regionKey('bar0.doorbells');

/** ITR_INDX of a queue that waits for no interval. */
export const ITR_NONE = 3;
/**
 * Where in `REGION_DOORBELLS` VFINT_ITRN1 of an ITR index (0 to 2) and a vector (1 and up) lies: a word whose low 12 bits are the
 * interval between two interrupts in units of 2 us. The guest writes it at any time.
 */
export const itrOffset = (index: number, vector: number): number => 0x2800 + 64 * index + 4 * (vector - 1);

/** Where in `REGION_DOORBELLS` VFINT_DYN_CTLN1 of a vector (1 and up) lies. Its cells (`VECTOR_CONTROL`) name the same word; `takeControl` reads it. */
export const controlOffset = (vector: number): number => 0x3800 + 4 * (vector - 1);
export { isQuiet, takeControl } from './vector-control.ts';

/** A virtchnl message from the guest: ATQ descriptor opcode 0x0801. `payload` is a private copy. */
export interface MailboxRequest {
  readonly opcode: number;
  readonly payload: Uint8Array;
}
/**
 * `message`: becomes one ARQ descriptor (opcode 0x0802) with `opcode` in cookie_high and `status` in cookie_low; queued when the
 * guest has posted no buffer, newest LINK_CHANGE only. `reset`: do a VF reset now (RSTAT 0, `reset('family')` hook, admin
 * queues cleared, RSTAT 2); messages sent before and not yet delivered are dropped with the queues.
 */
export type MailboxReply =
  | { readonly kind: 'message'; readonly opcode: number; readonly status: number; readonly payload: Uint8Array }
  | { readonly kind: 'reset' };

/** The channel of virtchnl messages: requests from the guest, replies and events to it. */
export const MAILBOX: ChannelKey<MailboxReply, MailboxRequest> = channelKey('mailbox');
