/** Two processes that pass frames round and round: what every io-loop table compares. */
export interface LoopSettings {
  /** Bytes of a frame without FCS. */
  readonly frameBytes: number;
  /** Instead: sizes that the frames on their way have in turn. */
  readonly mix?: readonly number[];
  /** Only our driver's: TCP over IPv4 with right checksums, or with checksums that the driver leaves to the card each time. */
  readonly content?: 'tcp' | 'tcp-checksums';
  readonly inFlight: number;
  readonly burst: number;
  readonly warmupMs: number;
  readonly windowMs: number;
}

export interface PairKind {
  readonly who: string;
  /** Why it cannot run here; undefined if it can. */
  readonly missing: string | undefined;
  /** One run from start to end; frames per second in one direction. Throws where the pair does not come up. */
  run(settings: LoopSettings): Promise<number>;
}
