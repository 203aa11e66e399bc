/** Traffic against a card whose far end sends everything back. */
import type { Driver } from './two-processes.ts';

const DATA_BYTES = 1 << 20;

/**
 * Sends `count` frames, at most `inFlight` of them under way, and compares what comes back byte for byte and in order. Frame n is
 * a piece of a random megabyte, with its address, its number and its length in front.
 */
export async function echo(driver: Driver, count: number, sizes: readonly number[], inFlight: number, patienceMs = 20_000): Promise<void> {
  const { window, port, datapath, tx, rx } = driver;
  const { view, u8, u32 } = window;
  const data = window.alloc(DATA_BYTES + 16_384);
  for (let i = 0; i < DATA_BYTES + 16_384; i += 4) u32[(data + i) >>> 2] = Math.imul(i + 1, 0x9e3779b1) ^ (i >>> 3);
  const mac = port.info.mac!;
  const sizeOf = (n: number): number => sizes[n % sizes.length]!;
  const bodyOf = (n: number): number => data + (Math.imul(n, 7919) & (DATA_BYTES - 4));
  const slotBytes = Math.ceil(Math.max(...sizes) / 64) * 64;
  const room = Math.min(tx.capacity, Math.floor(tx.arenaBytes / slotBytes));
  let sent = 0;
  let received = 0;
  let deadline = performance.now() + patienceMs;
  try {
    while (received < count) {
      const batch = Math.min(room, count - sent, inFlight - (sent - received));
      for (let i = 0; i < batch; i++) {
        const n = sent + i;
        const at = tx.arena + i * slotBytes;
        u8.copyWithin(at, bodyOf(n), bodyOf(n) + sizeOf(n));
        u8.set(mac, at);
        view.setUint32(at + 14, n, true);
        const record = driver.record(tx, i);
        view.setUint32(record, at, true);
        view.setUint32(record + 4, sizeOf(n), true);
        view.setUint32(record + 8, 0, true);
      }
      // What is not taken now is made again on the next round.
      if (batch > 0) sent += datapath.txBurst(0, tx, batch);
      const got = datapath.rxBurst(0, rx, rx.capacity);
      for (let i = 0; i < got; i++, received++) {
        const record = driver.record(rx, i);
        const at = view.getUint32(record, true);
        const size = view.getUint32(record + 4, true);
        if (size !== sizeOf(received) || view.getUint32(at + 14, true) !== received) {
          throw new Error(`frame ${received} of ${sizeOf(received)} bytes came back as frame ${view.getUint32(at + 14, true)} of ${size}`);
        }
        const body = bodyOf(received);
        // The address and the number have been looked at; compare what lies between and after them.
        if (Buffer.compare(Buffer.from(u8.buffer, at + 6, 8), Buffer.from(u8.buffer, body + 6, 8)) !== 0) throw new Error(`frame ${received}: header`);
        if (Buffer.compare(Buffer.from(u8.buffer, at + 18, size - 18), Buffer.from(u8.buffer, body + 18, size - 18)) !== 0) throw new Error(`frame ${received}: body`);
      }
      if (got > 0) deadline = performance.now() + patienceMs;
      else {
        if (performance.now() > deadline) throw new Error(`${received} of ${sent} frames came back`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  } finally {
    window.free(data);
  }
}
