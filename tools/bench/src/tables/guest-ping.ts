import { CARDS, guestCards } from '../guest-cards.ts';
import { quantile } from '../statistics.ts';
import type { Table } from '../table.ts';

const INTERVAL_S = 0.005;

const guestPing: Table = {
  what: 'ping from an emulated guest (QEMU, tcg, one processor) to its host over TAP, one packet in flight, 200 a second: round trip',
  figures: [
    { name: 'p50Us', unit: 'us, median', better: 'less' },
    { name: 'p99Us', unit: 'us, 99th percentile', better: 'less' },
  ],
  async contenders(_, undo) {
    const cards = await guestCards(undo);
    return CARDS.map((card) => ({
      who: card,
      missing: 'missing' in cards ? cards.missing : undefined,
      against: card === 'iavf' ? [{ who: 'virtio-net', figure: 'p50Us', goal: 1 }, { who: 'virtio-net', figure: 'p99Us', goal: 1 }] : [],
      async run(effort) {
        if ('missing' in cards) throw new Error(cards.missing);
        const count = Math.max(100, Math.round(effort.windowMs / 1000 / INTERVAL_S));
        const warmup = Math.max(1, Math.round(effort.warmupMs / 1000 / INTERVAL_S));
        const { output } = await cards.guest.run(`ping -i ${String(INTERVAL_S)} -c ${String(warmup + count)} ${cards.host(card)}`, { timeoutMs: 60_000 + 50 * (warmup + count) });
        const times = [...output.matchAll(/ time=([\d.]+) ms/g)].map(([, ms]) => Number(ms) * 1000).slice(warmup);
        if (times.length < 0.9 * count) throw new Error(`${String(count - times.length)} of ${String(count)} pings without an answer`);
        return { p50Us: quantile(times, 0.5), p99Us: quantile(times, 0.99) };
      },
    }));
  },
};
export default guestPing;
