/**
 * VFINT_DYN_CTLN1 as a word of mapped memory: a guest's write is a store of which nobody hears, so the commands in it are taken by
 * whoever looks next: an lcore that has something to raise, or that looks round; the control thread where the write came as a message.
 *
 * | bits of the word           | meaning                                             | once taken             |
 * | -------------------------- | --------------------------------------------------- | ---------------------- |
 * | INTENA                     | armed; cleared by whoever fires                     | stays                  |
 * | ITR_INDX 0..2, INTERVAL    | new interval of that ITR                            | ITR_INDX 3, INTERVAL 0 |
 * | SWINT_TRIG                 | an event                                            | 0                      |
 * | CLEARPBA                   | nothing: DPDK and FreeBSD write it with each INTENA | 0                      |
 * | INTENA_MSK                 | leave INTENA as it is: see below                    | 0                      |
 * | WB_ON_ITR, SW_ITR_INDX     | nothing: all is written back at once                | stay                   |
 *
 * A later store of the guest's replaces an earlier one that nobody has looked at. Arming and disarming are meant so. An interval that
 * is lost like that is one that the driver itself has revised. A SWINT_TRIG can only be lost to the write by which a handler re-arms
 * after it has looked at the rings, which is what the SWINT_TRIG was to make it do. What INTENA_MSK would leave alone is gone by then:
 * such a vector counts as armed, because one interrupt too many does less harm than one too few (no driver of iavf.md 6.2 writes it).
 * A word of 0 is what reset leaves as well as what Linux disarms with: it sets no interval.
 */
import { DYN_INTENA, DYN_INTENA_MSK, DYN_INTERVAL, DYN_INTERVAL_SHIFT, DYN_ITR_INDX_SHIFT, DYN_ITR_NONE, DYN_STATE, DYN_SWINT_TRIG } from './register-table.ts';

const NO_INTERVAL = DYN_ITR_NONE << DYN_ITR_INDX_SHIFT;
/** From VFINT_DYN_CTLN1 of a vector to its VFINT_ITRN1 of index 0, and from one index to the next, in words. */
const ITR_WORDS = (0x2800 - 0x3800) / 4;
const ITR_INDEX_WORDS = 64 / 4;
/** GUEST: one that writes the word all the time is looked at again later. */
const TRIES = 4;

/** What is left of a word when its commands have been taken. */
function taken(word: number, armed: number): number {
  return (word & DYN_STATE) | NO_INTERVAL | armed;
}

/** ITR_INDX and INTERVAL of a word go to VFINT_ITRN1. `control`: Int32 index of the register. */
function setInterval(i32: Int32Array, control: number, word: number): void {
  const index = (word >>> DYN_ITR_INDX_SHIFT) & 3;
  if (index !== DYN_ITR_NONE) Atomics.store(i32, control + ITR_WORDS + index * ITR_INDEX_WORDS, (word >>> DYN_INTERVAL_SHIFT) & DYN_INTERVAL);
}

/** Takes what the guest has stored in the register at `control`, the Int32 index of a VFINT_DYN_CTLN1. Returns true if that triggers an interrupt. */
export function takeControl(i32: Int32Array, control: number): boolean {
  for (let tries = 0; tries < TRIES; tries++) {
    // GUEST: any value, at any time.
    const word = Atomics.load(i32, control);
    const next = taken(word, (word & (DYN_INTENA | DYN_INTENA_MSK)) === 0 ? 0 : DYN_INTENA);
    if (word === 0 || word === next) return false;
    if (Atomics.compareExchange(i32, control, word, next) !== word) continue;
    setInterval(i32, control, word);
    return (word & DYN_SWINT_TRIG) !== 0;
  }
  return false;
}

/**
 * The guest has the vector disarmed, and nothing in the register is to be taken. By a plain read, a tenth of an atomic one: only for who
 * looks again soon.
 */
export function isQuiet(i32: Int32Array, control: number): boolean {
  const word = i32[control]!; // GUEST: any value, at any time.
  return word === 0 || word === taken(word, 0);
}

/** As `takeControl`, for a write that came as a message: here it is known what INTENA_MSK leaves alone. */
export function writeControl(i32: Int32Array, control: number, word: number): boolean {
  let triggered = takeControl(i32, control);
  if ((word & DYN_INTENA_MSK) === 0) {
    Atomics.store(i32, control, taken(word, word & DYN_INTENA));
  } else {
    // Whoever fires at this moment disarms: that must not be undone.
    for (let tries = 0; tries < TRIES; tries++) {
      const before = Atomics.load(i32, control);
      if (Atomics.compareExchange(i32, control, before, taken(word, before & DYN_INTENA)) === before) break;
      triggered = takeControl(i32, control) || triggered;
    }
  }
  setInterval(i32, control, word);
  return triggered || (word & DYN_SWINT_TRIG) !== 0;
}
