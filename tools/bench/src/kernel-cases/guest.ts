/** The emulated card's kernels: guest Tx and guest Rx. */
import * as dma from '@emudev/dma';
import * as ethdev from '@emudev/ethdev';
import { KERNELS_WASM_BASE64 } from '../../../../packages/net-iavf-be/src/kernels.gen.ts';
import * as layout from '../../../../packages/net-iavf-be/src/layout.ts';
import type { Kernels } from '../../../../packages/net-iavf-be/src/twins/index.ts';
import { CHUNK_IOVA, guestOffset, Rig, RIG_BYTES } from '../../../../packages/net-iavf-be/test/rig.ts';
import { BURST, BURSTS, type KernelCase, type Setup } from './case.ts';

export const GUEST_CONSTANTS: Readonly<Record<string, unknown>> = { ...layout, ...dma, ...ethdev };

const RING = 512;
const BUFFER_BYTES = 2048;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const EOP = 0x10n;
const RS = 0x20n;
/** IIPT IPv4 with checksum, L4T TCP, OFFSET 14/20/20. */
const TCP_CHECKSUM = 0x1600n | (7n << 16n) | (5n << 23n) | (5n << 30n);
const VOUCHED = ethdev.FRAME_RX_IP_GOOD | ethdev.FRAME_RX_L4_GOOD;
const HEADERS = 54;
const MSS = 1448;
/** Of a packet to be cut; as many go into 64 KiB. */
const SEGMENTS = 45;
/** Data descriptors of a packet in pieces. */
const PIECES = 3;

const address = (buffer: number): bigint => CHUNK_IOVA + BigInt(buffer * BUFFER_BYTES);

/** A UDP (no checksum) or TCP frame; only what the data path looks at is right. `flow` varies addresses and ports. */
function frame(bytes: number, flow: number, tcp: boolean): Uint8Array {
  const f = new Uint8Array(bytes);
  const v = new DataView(f.buffer);
  for (let n = HEADERS; n < bytes; n++) f[n] = n * 7 + flow;
  f.set(MAC, 0);
  v.setUint16(12, 0x0800);
  f[14] = 0x45;
  v.setUint16(16, bytes - 14);
  f[23] = tcp ? 6 : 17;
  v.setUint32(26, 0x0a000001 + flow);
  v.setUint32(30, 0x0a000002);
  v.setUint16(34, 1000 + flow);
  v.setUint16(36, 80);
  if (tcp) f[46] = 0x50;
  else v.setUint16(38, bytes - 34);
  return f;
}

class GuestCases {
  readonly #rig = new Rig();
  readonly #kernels: Kernels;

  constructor() {
    this.#kernels = dma.loadKernels<Kernels & { setStoreOrder(ordered: number): void }>(KERNELS_WASM_BASE64, this.#rig.memory);
    this.#kernels.setStoreOrder(process.arch === 'x64' ? 1 : 0);
  }

  #descriptor(slot: number, iova: bigint, qw1: bigint): void {
    this.#rig.set64(this.#rig.txDescriptor(0, slot), iova);
    this.#rig.set64(this.#rig.txDescriptor(0, slot) + 8, qw1);
  }

  #case(who: string, kernel: string, bytes: number, setup: () => Setup, calls = BURSTS, frames = BURST): KernelCase {
    return { who, program: 'kernels', kernel, calls, frames, copies: bytes >= 1024, memory: this.#rig.u8, imageBytes: RIG_BYTES, prepare: setup };
  }

  #setup(block: number, ring: number, ringBytes: number, frames: number, call: () => number): Setup {
    const rig = this.#rig;
    const { records, arena, arenaBytes } = rig.burst;
    return {
      state: [{ at: block, bytes: layout.Q_BYTES }, { at: ring, bytes: ringBytes }],
      scratch: [
        { at: rig.device + layout.DEV_SCRATCH, bytes: layout.DEV_BYTES - layout.DEV_SCRATCH },
        { at: rig.rxBlock(0) + layout.Q_RX_ADDRESSES, bytes: 8 * layout.MAX_RX_BUFFERS },
      ],
      arguments: [rig.device, records, frames, arena, arenaBytes],
      call,
    };
  }

  #tx(descriptors: number, frames: number, post: () => void): Setup {
    const rig = this.#rig;
    const { records, arena, arenaBytes } = rig.burst;
    rig.reset();
    rig.mapGuest();
    rig.enableTx(0, { length: RING });
    post();
    rig.setTail(rig.txBlock(0), descriptors);
    return this.#setup(rig.txBlock(0), rig.txDescriptor(0, 0), RING * layout.TX_DESCRIPTOR_BYTES, frames,
      () => this.#kernels.rxBurst(rig.device, 0, records, frames, arena, arenaBytes) & 0xffff);
  }

  #txBursts(bytes: number, command: bigint, tcp: boolean): Setup {
    return this.#tx(BURST * BURSTS, BURST, () => {
      for (let n = 0; n < RING; n++) {
        this.#rig.write(guestOffset(address(n)), frame(bytes, n, tcp));
        this.#descriptor(n, address(n), EOP | RS | command | (BigInt(bytes) << 34n));
      }
    });
  }

  tx(who: string, bytes: number, command: bigint, tcp: boolean): KernelCase {
    return this.#case(who, 'guest-tx', bytes, () => this.#txBursts(bytes, command, tcp));
  }

  /** To somebody who takes lent frames, and gives them back at once. */
  txLent(who: string, bytes: number, command: bigint): KernelCase {
    return this.#case(who, 'guest-tx-lent', bytes, () => {
      const setup = this.#txBursts(bytes, command, true);
      this.#rig.set(this.#rig.device + layout.DEV_LENDS, 1);
      const call = (): number => {
        const frames = setup.call(0);
        this.#kernels.takeBack(this.#rig.device, 0, this.#rig.burst.records, 0);
        return frames;
      };
      return { ...setup, call };
    });
  }

  /** 64 KiB in one context descriptor and five data descriptors. */
  cut(who: string): KernelCase {
    const bytes = HEADERS + SEGMENTS * MSS;
    const pieceBytes = 14336;
    return this.#case(who, 'guest-tx-large', bytes, () => this.#tx(BURSTS * 6, SEGMENTS, () => {
      for (let n = 0; n < BURSTS; n++) {
        const at = (n % 8) * 0x20;
        this.#rig.write(guestOffset(address(at)), frame(bytes, n, true));
        this.#descriptor(n * 6, 0n, 1n | (1n << 4n) | (BigInt(bytes - HEADERS) << 30n) | (BigInt(MSS) << 50n));
        for (let piece = 0; piece < 5; piece++) {
          const size = Math.min(pieceBytes, bytes - piece * pieceBytes);
          this.#descriptor(n * 6 + 1 + piece, address(at) + BigInt(piece * pieceBytes), TCP_CHECKSUM | (piece === 4 ? EOP | RS : 0n) | (BigInt(size) << 34n));
        }
      }
    }), BURSTS, SEGMENTS);
  }

  txPieces(who: string, bytes: number): KernelCase {
    const calls = 5;
    return this.#case(who, 'guest-tx-large', bytes, () => this.#tx(calls * BURST * PIECES, BURST, () => {
      for (let n = 0; n < calls * BURST; n++) {
        this.#rig.write(guestOffset(address(n)), frame(bytes, n, false));
        for (let piece = 0; piece < PIECES; piece++) {
          const size = bytes / PIECES;
          this.#descriptor(n * PIECES + piece, address(n) + BigInt(piece * size), (piece === PIECES - 1 ? EOP | RS : 0n) | (BigInt(size) << 34n));
        }
      }
    }), calls);
  }

  /** `undone`: more flags of the records, of frames of TCP over IPv4. */
  rxLent(who: string, bytes: number, undone: number): KernelCase {
    const whole = this.rx(who, bytes, undone | ethdev.FRAME_LENT);
    const prepare = (): Setup => {
      const setup = whole.prepare();
      const rig = this.#rig;
      for (let n = 0; n < BURST; n++) {
        // Behind the receiver's buffers
        const loan = guestOffset(address(RING + n)) + ethdev.LENT_HEAD_BYTES;
        rig.write(loan, rig.frame(n).subarray(ethdev.LENT_HEAD_BYTES));
        rig.set(rig.record(n) + ethdev.FRAME_L2_LENGTH, 14 | (20 << 16));
        rig.set(rig.record(n) + ethdev.FRAME_L4_LENGTH, 20);
        rig.set(rig.record(n) + ethdev.FRAME_LOAN, loan);
      }
      return setup;
    };
    return { ...whole, kernel: 'guest-rx-lent', prepare };
  }

  rx(who: string, bytes: number, flags: number, { buffer = BUFFER_BYTES, flows = BURST }: { buffer?: number; flows?: number } = {}): KernelCase {
    const calls = bytes > buffer ? 5 : BURSTS;
    return this.#case(who, bytes > buffer ? 'guest-rx-large' : 'guest-rx', bytes, () => {
      const rig = this.#rig;
      rig.reset();
      rig.mapGuest();
      rig.addMac(MAC);
      rig.enableRx(0, { length: RING, buffer });
      rig.fillBurst(Array.from({ length: BURST }, (_, n) => ({ bytes: frame(bytes, n % flows, true), flags })));
      for (let n = 0; n < RING; n++) rig.set64(rig.rxDescriptor(0, n), address(n));
      rig.setTail(rig.rxBlock(0), RING - 1);
      return this.#setup(rig.rxBlock(0), rig.rxDescriptor(0, 0), RING * layout.RX_DESCRIPTOR_BYTES, BURST, () => this.#kernels.txBurst(rig.device, rig.burst.records, BURST));
    }, calls);
  }
}

export function guestCases(): readonly KernelCase[] {
  const guest = new GuestCases();
  return [
    guest.tx('guest Tx 64', 64, 0n, false),
    guest.tx('guest Tx 64, checksums', 64, TCP_CHECKSUM, true),
    guest.tx('guest Tx 1500', 1500, 0n, false),
    guest.tx('guest Tx 1500, checksums', 1500, TCP_CHECKSUM, true),
    guest.txLent('guest Tx 1500, lent', 1500, 0n),
    guest.txLent('guest Tx 1500, lent, checksums', 1500, TCP_CHECKSUM),
    guest.txPieces('guest Tx 1500 in 3 buffers', 1500),
    guest.cut('guest Tx 64 KiB, a segment'),
    guest.rx('guest Rx 64, vouched for', 64, VOUCHED),
    guest.rx('guest Rx 64, one flow', 64, VOUCHED, { flows: 1 }),
    guest.rx('guest Rx 64, verified', 64, 0),
    guest.rx('guest Rx 1500, vouched for', 1500, VOUCHED),
    guest.rx('guest Rx 1500, verified', 1500, 0),
    guest.rxLent('guest Rx 1500, lent, verified', 1500, 0),
    guest.rxLent('guest Rx 1500, lent, checksums', 1500, ethdev.FRAME_TX_L4_CSUM | ethdev.FRAME_L4_TCP),
    guest.rx('guest Rx 1500 in 3 buffers', 1500, VOUCHED, { buffer: 512 }),
  ];
}
