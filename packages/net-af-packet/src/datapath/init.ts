/** What the data path of a packet-socket port is started with: plain numbers. */
export interface AfPacketInit {
  readonly fds: readonly number[];
  /** Window offset of each queue's ring of received frames. */
  readonly rings: readonly number[];
  readonly slots: number;
  readonly slotBytes: number;
  readonly slotsPerBlock: number;
  readonly blockBytes: number;
  readonly maxFrameBytes: number;
  /** FRAME_TX_* that frames handed on may leave undone. */
  readonly peerTxCapabilities: number;
  /** Window offsets, one for each queue: a frame behind its header, and `TX_AREA_BYTES` for messages to the kernel. */
  readonly rxStages: readonly number[];
  readonly txAreas: readonly number[];
  readonly rxCounters: number;
  readonly txCounters: number;
  /** Int32 index: set to 1 when the interface is gone. */
  readonly goneCell: number;
}
