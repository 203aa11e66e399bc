/**
 * The ring of received frames of one packet socket (TPACKET_V2, Documentation/networking/packet_mmap.rst): slots that the kernel fills in
 * turn, without a system call. A plain frame is handed out where it lies, its slot given back with the next burst. What the kernel has
 * not cut yet (a packet of up to 64 KiB) does not fit a slot: it is fetched by one read, and cut in the window.
 *
 * Version 3 would pack frames of all lengths, and hand them over a block at a time, which is milliseconds late where little comes in.
 */
import { MAX_VIRTIO_FRAME_BYTES, VIRTIO_HEADER_BYTES, VirtioReceiver, type Burst, type LcoreContext, type WindowBytes } from '@emudev/ethdev';
import { LinuxError, linux } from '@emudev/linux';
import type { AfPacketInit } from './init.ts';

/** struct virtio_net_hdr, without num_buffers. */
export const HEADER_BYTES = 10;

/** struct tpacket2_hdr (include/uapi/linux/if_packet.h). */
const TP_STATUS = 0;
const TP_LEN = 4;
const TP_SNAPLEN = 8;
const TP_MAC = 12;
const TP_VLAN_TCI = 24;
const TP_VLAN_TPID = 26;
const TPACKET2_HEADER_BYTES = 32;
const STATUS_USER = 1;
const STATUS_COPY = 2;
const STATUS_VLAN_VALID = 0x10;
const STATUS_VLAN_TPID_VALID = 0x40;

const MAC_ADDRESSES_BYTES = 12;
const TAG_BYTES = 4;
const ETHERTYPE_VLAN = 0x8100;
const VH_CSUM_START = 6;
const READ_BYTES: number = HEADER_BYTES + MAX_VIRTIO_FRAME_BYTES + 1;
/** Room for a read of READ_BYTES behind what aligns its frame, and for a tag. */
export const RX_STAGE_BYTES: number = READ_BYTES + VIRTIO_HEADER_BYTES + TAG_BYTES + 8;

/** What became of the next slot. */
const EMPTY = 0;
const BAD = 1;
const TAKEN = 2;

export class RxRing {
  /** Frames that came and could not be used, since the last burst began. */
  errors = 0;
  readonly #context: LcoreContext;
  readonly #bytes: WindowBytes;
  readonly #init: AfPacketInit;
  readonly #fd: number;
  readonly #ring: number;
  readonly #stage: number;
  readonly #stageAddress: bigint;
  readonly #receiver: VirtioReceiver;
  #next = 0;
  /** Slots before `next` that go back to the kernel with the next burst: frames that were handed out lie in them. */
  #held = 0;
  #inPlace = false;

  constructor(context: LcoreContext, bytes: WindowBytes, init: AfPacketInit, queue: number) {
    this.#context = context;
    this.#bytes = bytes;
    this.#init = init;
    this.#fd = init.fds[queue]!;
    this.#ring = init.rings[queue]!;
    this.#stage = init.rxStages[queue]!;
    this.#stageAddress = context.base + BigInt(this.#stage);
    this.#receiver = new VirtioReceiver(context, bytes, queue, init.peerTxCapabilities, init.maxFrameBytes);
  }

  /** Bytes of the frames of the last burst. */
  get total(): number {
    return this.#receiver.total;
  }

  receive(burst: Burst, max: number): number {
    const receiver = this.#receiver;
    const most = max < burst.capacity ? max : burst.capacity;
    this.errors = 0;
    this.#giveBack();
    receiver.begin(burst);
    // Every round ends with a frame handed out, or ends the burst.
    while (receiver.count < most) {
      if (!receiver.pending) {
        const slot = this.#take();
        if (slot === EMPTY) break;
        if (slot === BAD) {
          this.errors++;
          break;
        }
      }
      if (!(this.#inPlace ? receiver.emitInPlace(most) : receiver.emit(most))) {
        if (!receiver.pending) this.errors++;
        break;
      }
    }
    return receiver.count;
  }

  #slot(index: number): number {
    const { slotsPerBlock, blockBytes, slotBytes } = this.#init;
    const block = Math.floor(index / slotsPerBlock);
    return this.#ring + block * blockBytes + (index - block * slotsPerBlock) * slotBytes;
  }

  #giveBack(): void {
    const { i32 } = this.#context;
    const slots = this.#init.slots;
    for (; this.#held > 0; this.#held--) Atomics.store(i32, (this.#slot((this.#next + slots - this.#held) % slots) + TP_STATUS) >>> 2, 0);
  }

  #take(): number {
    const { i32, u32, view } = this.#context;
    if (this.#held === this.#init.slots) return EMPTY;
    const slot = this.#slot(this.#next);
    const status = Atomics.load(i32, (slot + TP_STATUS) >>> 2);
    if ((status & STATUS_USER) === 0) return EMPTY;
    this.#next = this.#next + 1 === this.#init.slots ? 0 : this.#next + 1;
    this.#held++;
    const length = u32[(slot + TP_LEN) >>> 2]!;
    const captured = u32[(slot + TP_SNAPLEN) >>> 2]!;
    const mac = view.getUint16(slot + TP_MAC, true);
    let taken: boolean;
    this.#inPlace = false;
    if (captured !== length) {
      taken = (status & STATUS_COPY) !== 0 && this.#fetch(status, slot);
    } else if (mac < TPACKET2_HEADER_BYTES + HEADER_BYTES || mac + length > this.#init.slotBytes) {
      taken = false;
    } else if ((status & STATUS_VLAN_VALID) !== 0) {
      this.#bytes.copy(this.#stage, slot + mac - HEADER_BYTES, HEADER_BYTES + length);
      taken = this.#acceptStaged(length, status, slot);
    } else {
      taken = this.#receiver.accept(slot + mac - HEADER_BYTES, slot + mac, length);
      if (taken && !this.#receiver.cuts) {
        this.#inPlace = true;
        return TAKEN;
      }
      if (taken) {
        // Cut over several bursts, maybe: its slot does not wait for that.
        this.#bytes.copy(this.#stage, slot + mac - HEADER_BYTES, HEADER_BYTES + length);
        taken = this.#receiver.accept(this.#stage, this.#stage + HEADER_BYTES, length);
      }
    }
    return taken ? TAKEN : BAD;
  }

  /** The frame that the kernel has kept whole because its slot is too short. */
  #fetch(status: number, slot: number): boolean {
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const read = linux.readAt(this.#fd, this.#stageAddress, READ_BYTES);
        return read !== undefined && read > HEADER_BYTES && read < READ_BYTES && this.#acceptStaged(read - HEADER_BYTES, status, slot);
      } catch (error) {
        // A pending error of the socket (ENETDOWN) is told once, and the frame is still there.
        if (!(error instanceof LinuxError)) throw error;
      }
    }
    return false;
  }

  /** Header and frame in the stage; a tag that the kernel has taken off goes back where it was. */
  #acceptStaged(length: number, status: number, slot: number): boolean {
    const { view } = this.#context;
    const frame = this.#stage + HEADER_BYTES;
    if ((status & STATUS_VLAN_VALID) === 0) return this.#receiver.accept(this.#stage, frame, length);
    if (length < MAC_ADDRESSES_BYTES + 2) return false;
    this.#bytes.copy(frame + MAC_ADDRESSES_BYTES + TAG_BYTES, frame + MAC_ADDRESSES_BYTES, length - MAC_ADDRESSES_BYTES);
    view.setUint16(frame + MAC_ADDRESSES_BYTES, (status & STATUS_VLAN_TPID_VALID) === 0 ? ETHERTYPE_VLAN : view.getUint16(slot + TP_VLAN_TPID, true));
    view.setUint16(frame + MAC_ADDRESSES_BYTES + 2, view.getUint16(slot + TP_VLAN_TCI, true));
    if ((view.getUint8(this.#stage) & 1) !== 0) view.setUint16(this.#stage + VH_CSUM_START, view.getUint16(this.#stage + VH_CSUM_START, true) + TAG_BYTES, true);
    return this.#receiver.accept(this.#stage, frame, length + TAG_BYTES);
  }
}
