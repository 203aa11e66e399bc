/**
 * The contract of the serial family: what a provider of a serial card and the back ends of its ports agree on. No code, no
 * dependency at run time but the key constructors.
 *
 * Each port has a channel of its own. Bytes flow by credit, in both directions alike: who is to receive says with `credit` how many
 * more bytes it takes, and nobody sends more than that. A break is a character and costs one. Nothing is ever dropped for want of
 * room, and nobody has to ask again.
 *
 * The conversation begins when a back end sets its handler (`Channel.onMessage`): the provider sends `reset`, what the guest's side
 * looks like now, and credits. It ends when that handler is disposed of: what the back end had granted is void.
 */
import { attrKey, channelKey, integerAttr, jsonAttr, stringAttr, type AttrKey, type ChannelKey } from '@emudev/emudev';
import { MAX_FAR_END_TEXT } from './limits.ts';

/** Name of the family. */
export const SERIAL_DEV_TYPE = 'serial';
/** Of this contract. */
export const SERIAL_CONTRACT_VERSION = 1;
/** What a back end names when it attaches. */
export const SERIAL_CONTRACT: { readonly devType: string; readonly version: number } = { devType: SERIAL_DEV_TYPE, version: SERIAL_CONTRACT_VERSION };

/** Ports a card may have. */
export const MAX_PORTS = 2;

/** What the guest's driver has put on the wires: true is the active level. */
export interface ModemOutputs {
  readonly dtr: boolean;
  /** The guest can receive. A back end that keeps to hardware flow control sends nothing while it is false. */
  readonly rts: boolean;
}

/** What the guest's driver sees on the wires. */
export interface ModemInputs {
  readonly cts: boolean;
  readonly dsr: boolean;
  readonly ri: boolean;
  readonly dcd: boolean;
}

/** How the guest has set up the line. Informative: a byte has eight bits here whatever the guest says, and takes no time. */
export interface LineSettings {
  /** 115200 / divisor; 0 while the divisor is. */
  readonly baud: number;
  readonly dataBits: 5 | 6 | 7 | 8;
  readonly parity: 'none' | 'odd' | 'even' | 'mark' | 'space';
  readonly stopBits: 1 | 1.5 | 2;
}

/** The receiver, of the other side's bytes, has room for so many more: a positive integer. */
export interface SerialCredit {
  readonly kind: 'credit';
  readonly bytes: number;
}

/** At most as many as there is credit for. The receiver copies what it keeps before `send` returns or its handler ends. */
export interface SerialBytes {
  readonly kind: 'bytes';
  readonly bytes: Uint8Array;
}

/** What the card tells the back end of a port. */
export type SerialToBackEnd =
  | SerialBytes
  | SerialCredit
  /** All credits, of both directions, are void; those of the card follow, those of the back end are for it to send. The guest's FIFOs are empty. */
  | { readonly kind: 'reset' }
  | { readonly kind: 'modem'; readonly lines: ModemOutputs }
  | { readonly kind: 'settings'; readonly settings: LineSettings }
  /** The guest holds the line in the break state, or lets go of it; no byte comes in between. */
  | { readonly kind: 'break'; readonly on: boolean }
  /** A consumer has connected, or left; before it is said for the first time there is none. */
  | { readonly kind: 'consumer'; readonly present: boolean };

/** What the back end of a port tells the card. EMUDEV_RANGE: more bytes than there is credit for, or no such credit; EMUDEV_BAD_ARG: no such message. */
export type SerialToProvider =
  | SerialBytes
  | SerialCredit
  | { readonly kind: 'modem'; readonly lines: ModemInputs }
  /** One break, in order with the bytes. */
  | { readonly kind: 'break' };

/** The channel of a port, numbered from 0. */
export const serialPort = (port: number): ChannelKey<SerialToProvider, SerialToBackEnd> => channelKey(`port${port}`);

/** Number of ports. Read only. */
export const ATTR_PORTS: AttrKey<number> = attrKey('ports', integerAttr({ min: 1, max: MAX_PORTS }));
/** How the guest has set up the line. Read only. */
export const lineSettingsAttr = (port: number): AttrKey<LineSettings> => 
  attrKey(`port${port}.settings`, jsonAttr((value) => typeof value === 'object' && value !== null, '{"baud":115200,"dataBits":8,"parity":"none","stopBits":1}'));
/**
 * `tx:12 rx:7 overrun:0 break:0`, since the card was made: bytes handed to the back end, bytes put before the guest, bytes lost because the
 * guest did not fetch what it had sent to itself (loopback), breaks received. Read only.
 */
export const countersAttr = (port: number): AttrKey<string> => attrKey(`port${port}.counters`, stringAttr());
/** Where the far end is, as a person would look for it (`/dev/pts/4`, `127.0.0.1:5000`). The back end's to set; empty without one. */
export const farEndAttr = (port: number): AttrKey<string> => attrKey(`port${port}.farEnd`, stringAttr({ maxLength: MAX_FAR_END_TEXT }));
