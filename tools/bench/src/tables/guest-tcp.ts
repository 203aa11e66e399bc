import { CARDS, guestCards, type CardName, type GuestCards } from '../guest-cards.ts';
import { Child } from '../processes.ts';
import type { Against, Effort, Table } from '../table.ts';

const PORT = 5201;

interface Iperf3Report {
  readonly error?: string;
  readonly end: { readonly sum_received?: { readonly bits_per_second: number } };
}

/** Bits per second that the receiver saw. */
async function iperf3({ guest, host }: GuestCards, card: CardName, effort: Effort, reverse: boolean): Promise<number> {
  const seconds = Math.max(1, Math.round(effort.windowMs / 1000));
  const { output } = await guest.run(`iperf3 -c ${host(card)} -p ${String(PORT)} -J -O 1 -t ${String(seconds)}${reverse ? ' -R' : ''}`, { timeoutMs: 30_000 + 3000 * seconds });
  const report = JSON.parse(output.slice(output.indexOf('{'))) as Iperf3Report;
  if (report.error !== undefined) throw new Error(report.error);
  return report.end.sum_received!.bits_per_second;
}

const AGAINST: Readonly<Partial<Record<CardName, readonly Against[]>>> = {
  iavf: [
    { who: 'e1000e', figure: 'sendMbps', goal: 1.5 },
    { who: 'virtio-net', figure: 'sendMbps', goal: 1 },
    { who: 'igb', figure: 'receiveMbps', goal: 1.3 },
    { who: 'virtio-net', figure: 'receiveMbps' },
  ],
};

const guestTcp: Table = {
  what: 'one TCP connection (iperf3) between an emulated guest (QEMU, tcg, one processor) and its host, over TAP: what the guest sends, and what it receives',
  figures: [
    { name: 'sendMbps', unit: 'Mbit/s sent by the guest', better: 'more' },
    { name: 'receiveMbps', unit: 'Mbit/s received by the guest', better: 'more' },
  ],
  async contenders(_, undo) {
    const cards = await guestCards(undo, ['iperf3']);
    if (!('missing' in cards)) undo.use(new Child('iperf3', [...cards.namespace.prefix, 'iperf3', '-s', '-p', String(PORT), '--forceflush']));
    return CARDS.map((card) => ({
      who: card,
      missing: 'missing' in cards ? cards.missing : undefined,
      against: AGAINST[card] ?? [],
      async run(effort) {
        if ('missing' in cards) throw new Error(cards.missing);
        return { sendMbps: (await iperf3(cards, card, effort, false)) / 1e6, receiveMbps: (await iperf3(cards, card, effort, true)) / 1e6 };
      },
    }));
  },
};
export default guestTcp;
