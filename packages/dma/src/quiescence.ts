/**
 * Quiescent-state based reclamation between the control thread and the lcores (the field's name is QSBR).
 *
 * An lcore passes a checkpoint once per loop, between bursts, where it holds no address of guest memory. The control thread
 * first makes a change visible that keeps new bursts away (a port's `paused` word), then awaits `synchronize()`: when it
 * resolves, every lcore that was online has passed a checkpoint since, so nobody uses the old mapping.
 *
 * Cells per reader, in the window (Int32, one cache line each):
 * ```
 * 0  state: 0 offline (asleep: counts as quiescent), 1 online
 * 1  seen:  the last request number this reader has acknowledged
 * ```
 * and one shared cell: the request number. The reader's cost per loop is one plain load when nothing was asked.
 *
 * | reader state | checkpoint                     | goes offline        | goes online                        |
 * | ------------ | ------------------------------ | ------------------- | ---------------------------------- |
 * | online       | seen = request; notify if new  | state = 0; notify   | forbidden: it is online            |
 * | offline      | forbidden: it may hold nothing | forbidden           | state = 1, then seen = request     |
 */
// Public face (implemented here):
//   class Quiescence { constructor(window); addReader(): ReaderCells; removeReader(cells); synchronize(deadlineMs = 1000): Promise<void> }
//     synchronize rejects with QuiescenceTimeoutError naming the reader that never came by.
//   class QuiescentReader { constructor(i32, cells); checkpoint(): void; offline(): void; online(): void }
export {};
