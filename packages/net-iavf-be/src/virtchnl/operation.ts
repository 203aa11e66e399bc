import type { Adapter } from '../adapter.ts';

/** What becomes of a request. Nothing said: SUCCESS with an empty body. */
export interface Outcome {
  readonly payload?: Uint8Array;
  /** No reply at all: RESET_VF and a granted REQUEST_QUEUES. */
  readonly silent?: boolean;
  /** Tell the guest its link, after the reply. */
  readonly linkEvent?: boolean;
  /** Reset the function, after everything else. */
  readonly reset?: boolean;
  /** Announce that reset, and leave the driver time to see it. */
  readonly announceReset?: boolean;
}

/** 'always': also before GET_VF_RESOURCES. A mask: any of these capabilities granted; 0: none needed. */
export type Requirement = 'always' | number;

/**
 * One opcode, in the three steps that give the status its order: the format (−5), then the allow-list (−64), then the meaning
 * (−5). Steps throw VirtchnlError; a step that fails has changed nothing.
 */
export interface Operation {
  readonly opcode: number;
  readonly requires: Requirement;
  decode(payload: Uint8Array): (adapter: Adapter) => Outcome | Promise<Outcome>;
}

export function operation<T>(
  opcode: number,
  requires: Requirement,
  decode: (payload: Uint8Array, opcode: number) => T,
  run: (adapter: Adapter, message: T, opcode: number) => Outcome | Promise<Outcome>,
): Operation {
  return {
    opcode,
    requires,
    decode(payload) {
      const message = decode(payload, opcode);
      return (adapter) => run(adapter, message, opcode);
    },
  };
}

/** Operations without a body: one that comes all the same is ignored. */
export const noBody = (): undefined => undefined;
export const DONE: Outcome = {};
