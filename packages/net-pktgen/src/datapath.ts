/**
 * The data path: questions out of `rxBurst`, answers into `txBurst`. A traffic frame carries its number and the number's
 * complement, whose sum is constant, so the UDP checksum of every frame is the template's.
 */
import {
  addCounter, checksumOf, foldSum, sumWords, FRAME_DATA, FRAME_FLAGS, FRAME_LENGTH, FRAME_QUEUE, FRAME_RECORD_BYTES, RXQ_BYTES, RXQ_PACKETS, TXQ_BYTES, TXQ_ERRORS, TXQ_PACKETS,
  type Burst, type LcoreContext, type PortDatapath,
} from '@emudev/ethdev';
import { MAX_FRAME_BYTES } from './limits.ts';
import { buildTemplate, ICMP, IPV4, PAYLOAD, UDP } from './template.ts';
import {
  PHASE_IDLE, PHASE_PING, PHASE_TRAFFIC, RTT_SLOTS, STATE_LOST, STATE_PHASE, STATE_PINGS_ANSWERED, STATE_PINGS_SENT, STATE_PINGS_WANTED,
  STATE_RESOLVED, STATE_RTTS, STATE_RX_BYTES, STATE_RX_PACKETS, STATE_TEMPLATE, STATE_TX_BYTES, STATE_TX_PACKETS, STATE_WRONG, type PktgenInit,
} from './state.ts';

const PING_BYTES = 98;
const ARP_BYTES = 60;
const RESOLVE_INTERVAL_MS = 100;
const ECHO_PORT = 7;

class PktgenDatapath implements PortDatapath {
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #view: DataView;
  readonly #init: PktgenInit;
  readonly #state: number;
  readonly #peerMac = new Uint8Array(6);
  #resolved = false;
  #lastQuestion = 0;
  #pingAt = 0;
  #pingOpen = false;
  #nextSequence = 0;
  #expected = 0;
  #lastAnswer = 0;
  /** Somebody asked for our MAC: who, and 4 bytes of address; answered by the next rxBurst. */
  #arpAsked = false;
  readonly #asker = new Uint8Array(10);

  constructor(context: LcoreContext, init: PktgenInit) {
    this.#u8 = context.u8;
    this.#i32 = context.i32;
    this.#u32 = context.u32;
    this.#view = context.view;
    this.#init = init;
    this.#state = init.state;
  }

  #add(field: number, n: number): void {
    const at = this.#state + field;
    this.#view.setFloat64(at, this.#view.getFloat64(at, true) + n, true);
  }

  rxBurst(_queue: number, burst: Burst, max: number): number {
    const count = this.#ask(burst, max);
    if (count === 0) return 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += this.#u32[(burst.records + i * FRAME_RECORD_BYTES + FRAME_LENGTH) >>> 2]!;
    addCounter(this.#u32, (this.#init.rxCounters + RXQ_PACKETS) >>> 2, count);
    addCounter(this.#u32, (this.#init.rxCounters + RXQ_BYTES) >>> 2, bytes);
    return count;
  }

  #ask(burst: Burst, max: number): number {
    const phase = this.#i32[(this.#state + STATE_PHASE) >>> 2]!;
    const limit = Math.min(max, burst.capacity);
    if (limit === 0) return 0;
    if (this.#arpAsked) return this.#arpReply(burst);
    if (phase === PHASE_IDLE) return 0;
    const now = performance.now();
    if (!this.#resolved) {
      if (now - this.#lastQuestion < RESOLVE_INTERVAL_MS) return 0;
      this.#lastQuestion = now;
      return this.#arpRequest(burst);
    }
    if (phase === PHASE_PING) return this.#ping(burst, now);
    if (phase === PHASE_TRAFFIC) return this.#traffic(burst, limit, now);
    this.#expire(now);
    return 0;
  }

  #record(burst: Burst, index: number, data: number, length: number): void {
    const at = burst.records + index * FRAME_RECORD_BYTES;
    this.#view.setUint32(at + FRAME_DATA, data, true);
    this.#view.setUint32(at + FRAME_LENGTH, length, true);
    this.#view.setUint32(at + FRAME_FLAGS, 0, true);
    this.#view.setUint16(at + FRAME_QUEUE, 0, true);
  }

  #arp(burst: Burst, operation: number): number {
    const u8 = this.#u8;
    const p = burst.arena;
    u8.fill(0, p, p + ARP_BYTES);
    for (let i = 0; i < 6; i++) {
      u8[p + i] = operation === 1 ? 0xff : this.#asker[i]!;
      u8[p + 6 + i] = u8[p + 22 + i] = this.#init.mac[i]!;
      if (operation === 2) u8[p + 32 + i] = this.#asker[i]!;
    }
    // RFC 826: Ethernet, IPv4, lengths 6 and 4, operation.
    this.#view.setUint16(p + 12, 0x0806);
    this.#view.setUint16(p + 14, 1);
    this.#view.setUint16(p + 16, 0x0800);
    this.#view.setUint16(p + 18, 0x0604);
    this.#view.setUint16(p + 20, operation);
    for (let i = 0; i < 4; i++) {
      u8[p + 28 + i] = this.#init.ip[i]!;
      u8[p + 38 + i] = operation === 1 ? this.#init.peer[i]! : this.#asker[6 + i]!;
    }
    this.#record(burst, 0, p, ARP_BYTES);
    return 1;
  }

  #arpRequest(burst: Burst): number {
    return this.#arp(burst, 1);
  }

  #arpReply(burst: Burst): number {
    this.#arpAsked = false;
    return this.#arp(burst, 2);
  }

  #ping(burst: Burst, now: number): number {
    const i32 = this.#i32;
    const sentAt = (this.#state + STATE_PINGS_SENT) >>> 2;
    if (this.#pingOpen && now - this.#pingAt > this.#init.timeoutMs) this.#pingOpen = false;
    if (this.#pingOpen || i32[sentAt]! >= i32[(this.#state + STATE_PINGS_WANTED) >>> 2]!) return 0;
    if (now - this.#pingAt < this.#init.pingIntervalMs) return 0;
    const sequence = i32[sentAt]! + 1;
    const p = burst.arena;
    buildTemplate(this.#u8, this.#view, p, PING_BYTES, 1, this.#init, this.#peerMac);
    this.#view.setUint16(p + ICMP + 6, sequence & 0xffff);
    this.#view.setUint16(p + ICMP + 2, checksumOf(sumWords(this.#u8, p + ICMP, PING_BYTES - ICMP)));
    this.#record(burst, 0, p, PING_BYTES);
    i32[sentAt] = sequence;
    this.#pingOpen = true;
    this.#pingAt = performance.now();
    return 1;
  }

  #traffic(burst: Burst, limit: number, now: number): number {
    const { frameBytes } = this.#init;
    const template = this.#state + STATE_TEMPLATE;
    if (this.#nextSequence === 0) {
      buildTemplate(this.#u8, this.#view, template, frameBytes, 17, this.#init, this.#peerMac);
      this.#lastAnswer = now;
    }
    this.#expire(now);
    const stride = (frameBytes + 63) & ~63;
    const room = Math.floor(burst.arenaBytes / stride);
    const n = Math.min(limit, room, this.#init.window - (this.#nextSequence - this.#expected));
    for (let i = 0; i < n; i++) {
      const p = burst.arena + i * stride;
      const sequence = this.#nextSequence++ >>> 0;
      this.#u8.copyWithin(p, template, template + frameBytes);
      this.#view.setUint32(p + PAYLOAD, sequence);
      this.#view.setUint32(p + PAYLOAD + 4, ~sequence >>> 0);
      this.#record(burst, i, p, frameBytes);
    }
    if (n > 0) {
      this.#add(STATE_TX_PACKETS, n);
      this.#add(STATE_TX_BYTES, n * frameBytes);
      return n;
    }
    return 0;
  }

  /** Frames that nobody answered for the whole time-out are lost; the window opens again. */
  #expire(now: number): void {
    const open = this.#nextSequence - this.#expected;
    if (open === 0) {
      this.#lastAnswer = now;
      return;
    }
    if (now - this.#lastAnswer < this.#init.timeoutMs) return;
    this.#add(STATE_LOST, open);
    this.#expected = this.#nextSequence;
    this.#lastAnswer = now;
  }

  /** GUEST: whatever the peer sent; lengths are checked before anything behind them is read. */
  txBurst(_queue: number, burst: Burst, count: number): number {
    let frames = 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const at = burst.records + i * FRAME_RECORD_BYTES;
      const length = this.#view.getUint32(at + FRAME_LENGTH, true);
      if (length > MAX_FRAME_BYTES) continue;
      frames++;
      bytes += length;
      if (length >= 42) this.#answer(this.#view.getUint32(at + FRAME_DATA, true), length);
    }
    addCounter(this.#u32, (this.#init.txCounters + TXQ_PACKETS) >>> 2, frames);
    addCounter(this.#u32, (this.#init.txCounters + TXQ_BYTES) >>> 2, bytes);
    if (frames !== count) addCounter(this.#u32, (this.#init.txCounters + TXQ_ERRORS) >>> 2, count - frames);
    return count;
  }

  #answer(p: number, length: number): void {
    const type = this.#view.getUint16(p + 12);
    if (type === 0x0806) this.#onArp(p);
    else if (type === 0x0800 && this.#u8[p + IPV4] === 0x45 && this.#forUs(p + IPV4 + 16)) {
      const protocol = this.#u8[p + IPV4 + 9]!;
      if (protocol === 17) this.#onEcho(p, length);
      else if (protocol === 1) this.#onPing(p, length);
    }
  }

  #forUs(ip: number): boolean {
    for (let i = 0; i < 4; i++) if (this.#u8[ip + i] !== this.#init.ip[i]) return false;
    return true;
  }

  #onArp(p: number): void {
    const operation = this.#view.getUint16(p + 20);
    if (!this.#forUs(p + 38)) return;
    if (operation === 1) {
      this.#arpAsked = true;
      for (let i = 0; i < 10; i++) this.#asker[i] = this.#u8[p + 22 + i]!;
      return;
    }
    for (let i = 0; i < 4; i++) if (this.#u8[p + 28 + i] !== this.#init.peer[i]) return;
    for (let i = 0; i < 6; i++) this.#peerMac[i] = this.#u8[p + 22 + i]!;
    this.#resolved = true;
    this.#i32[(this.#state + STATE_RESOLVED) >>> 2] = 1;
  }

  #onPing(p: number, length: number): void {
    const i32 = this.#i32;
    const sent = i32[(this.#state + STATE_PINGS_SENT) >>> 2]!;
    // Echo reply to the question that is open; a late or foreign one is nobody's.
    if (length < PING_BYTES || this.#u8[p + ICMP] !== 0 || !this.#pingOpen || this.#view.getUint16(p + ICMP + 6) !== (sent & 0xffff)) return;
    if (foldSum(sumWords(this.#u8, p + ICMP, PING_BYTES - ICMP)) !== 0xffff) {
      this.#add(STATE_WRONG, 1);
      return;
    }
    this.#pingOpen = false;
    this.#view.setFloat64(this.#state + STATE_RTTS + (sent % RTT_SLOTS) * 8, (performance.now() - this.#pingAt) * 1000, true);
    i32[(this.#state + STATE_PINGS_ANSWERED) >>> 2]!++;
  }

  #onEcho(p: number, length: number): void {
    const view = this.#view;
    if (view.getUint16(p + UDP) !== ECHO_PORT) return;
    // Before the payload is looked at: a shorter frame may end where memory does.
    if (length !== this.#init.frameBytes) {
      this.#add(STATE_WRONG, 1);
      return;
    }
    const sequence = view.getUint32(p + PAYLOAD);
    const ahead = (sequence - this.#expected) >>> 0;
    if (view.getUint32(p + PAYLOAD + 4) !== ~sequence >>> 0 || ahead >= this.#nextSequence - this.#expected || !this.#samePayload(p)) {
      this.#add(STATE_WRONG, 1);
      return;
    }
    // One flow keeps its order: a gap is what was lost on the way.
    if (ahead > 0) this.#add(STATE_LOST, ahead);
    this.#expected += ahead + 1;
    this.#lastAnswer = performance.now();
    this.#add(STATE_RX_PACKETS, 1);
    this.#add(STATE_RX_BYTES, length);
  }

  #samePayload(p: number): boolean {
    const template = this.#state + STATE_TEMPLATE;
    for (let i = PAYLOAD + 8; i < this.#init.frameBytes; i++) if (this.#u8[p + i] !== this.#u8[template + i]) return false;
    return true;
  }
}

export function createDatapath(context: LcoreContext, init: PktgenInit): PortDatapath {
  return new PktgenDatapath(context, init);
}
