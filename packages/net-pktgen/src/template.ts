/** The frames this port sends, built once. */
import { checksumOf, sumWords } from '@emudev/ethdev';
import type { PktgenInit } from './state.ts';

export const IPV4 = 14;
export const ICMP = 34;
export const UDP = 34;
export const PAYLOAD = 42;
const ECHO_PORT = 7;
const OUR_PORT = 40007;

/** Writes an ICMP echo request (protocol 1, checksum and number left to the caller) or a UDP echo question (17, complete). */
export function buildTemplate(u8: Uint8Array, view: DataView, p: number, length: number, protocol: 1 | 17, init: PktgenInit, peerMac: Uint8Array): void {
  u8.fill(0, p, p + length);
  for (let i = 0; i < 6; i++) {
    u8[p + i] = peerMac[i]!;
    u8[p + 6 + i] = init.mac[i]!;
  }
  view.setUint16(p + 12, 0x0800);
  u8[p + IPV4] = 0x45;
  view.setUint16(p + IPV4 + 2, length - IPV4);
  u8[p + IPV4 + 8] = 64;
  u8[p + IPV4 + 9] = protocol;
  for (let i = 0; i < 4; i++) {
    u8[p + IPV4 + 12 + i] = init.ip[i]!;
    u8[p + IPV4 + 16 + i] = init.peer[i]!;
  }
  view.setUint16(p + IPV4 + 10, checksumOf(sumWords(u8, p + IPV4, 20)));
  for (let i = PAYLOAD + 8; i < length; i++) u8[p + i] = i * 7;
  if (protocol === 1) {
    u8[p + ICMP] = 8;
    view.setUint16(p + ICMP + 4, 0x0e07);
    return;
  }
  view.setUint16(p + UDP, OUR_PORT);
  view.setUint16(p + UDP + 2, ECHO_PORT);
  view.setUint16(p + UDP + 4, length - UDP);
  // Number and complement: 0 and 0xffffffff stand for every pair.
  view.setUint32(p + PAYLOAD + 4, 0xffffffff);
  const pseudo = sumWords(u8, p + IPV4 + 12, 8, 17 + length - UDP);
  const checksum = checksumOf(sumWords(u8, p + UDP, length - UDP, pseudo));
  view.setUint16(p + UDP + 6, checksum === 0 ? 0xffff : checksum);
}
