/** What a port needs of its card. */
export interface Uart {
  /** A register, as one access of one byte. */
  read(register: number): Promise<number>;
  write(register: number, value: number): Promise<void>;
  /** Runs `work` when everything asked before is done: what takes more than one access is not interrupted. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
  /** Looks what there is to do, as after an interrupt. */
  serve(): void;
  /** The port is closed, or has failed. */
  ended(): void;
}
