/** Points that hold for a card in any guest, whatever its kernel. */
import type { Guest } from '@emudev/guest';
import { expect } from 'vitest';

/**
 * Names the cards `card0`, `card1`, … by their MAC addresses, once the driver has them all: which becomes eth0 is a race between
 * the driver's work items.
 */
export async function nameCards(guest: Guest, macs: readonly string[]): Promise<void> {
  for (const [i, mac] of macs.entries()) {
    const found = await guest.until(`grep -l -i ${mac} /sys/class/net/*/address`, (o) => o.includes('/sys/class/net/'), { what: `an interface with address ${mac}` });
    const now = found.split('/')[4]!;
    if (now !== `card${i}`) await guest.run(`ip link set ${now} down; ip link set ${now} name card${i}`);
  }
}

/** The interface is up and its carrier is there. */
export async function bringUp(guest: Guest, iface: string): Promise<void> {
  await guest.run(`ip link set ${iface} up`);
  await carrier(guest, iface, '1');
}

export async function carrier(guest: Guest, iface: string, wanted: '0' | '1'): Promise<void> {
  await guest.until(`cat /sys/class/net/${iface}/carrier`, (o) => o.trim() === wanted, { what: `carrier ${wanted} of ${iface}`, timeoutMs: 60_000 });
}

export async function expectPing(guest: Guest, target: string, options = ''): Promise<void> {
  // While the card's vectors are being attached its receive side pauses, and what arrives then is dropped (and counted): the first
  // packets after an interface came up may be among it. From the first answer on, none may be lost.
  await guest.until(`ping -c 1 -W 1 ${options} ${target}`, (o) => o.includes(' 1 received'), { what: `an answer of ${target}`, timeoutMs: 10_000 });
  const { output } = await guest.run(`${PING_THREE} ${options} ${target}`, { check: false });
  expectUnbroken(output, 3);
}

/**
 * Until three answers are there. Without a deadline (-w) ping waits for the last one no longer than twice what the others took, whatever
 * -W says, and calls lost what is only late.
 */
export const PING_THREE = 'ping -c 3 -i 0.2 -w 20';

/** Bits per second that the receiving end of an iperf3 run saw. */
export function received(json: string): number {
  const end = (JSON.parse(json.slice(json.indexOf('{'))) as { end: { sum_received?: { bits_per_second: number }; sum?: { bits_per_second: number } }; error?: string });
  if (end.error !== undefined) throw new Error(end.error);
  return end.end.sum_received?.bits_per_second ?? end.end.sum?.bits_per_second ?? 0;
}

/** Complaints that a healthy iavf driver never prints. */
export function expectCleanLog(guest: Guest): void {
  const complaints = guest.console.split('\n').filter((line) => /PF returned error|Failed to init|Never saw reset|Reset never finished|resources not yet released|NETDEV WATCHDOG|\bBUG: |\bOops\b|Call Trace|Tx hang|iavf.*timed out/.test(line));
  expect(complaints).toEqual([]);
}

/**
 * What a ping that has ended, or was ended, has printed: every answer once, in order, none missing. What was under way at the end has no answer;
 * ping counts it as lost.
 */
export function expectUnbroken(pings: string, atLeast = 2): void {
  const answered = [...pings.matchAll(/bytes from .* icmp_seq=(\d+)/g)].map(([, number]) => Number(number));
  expect(answered.length, pings.slice(-500)).toBeGreaterThanOrEqual(atLeast);
  expect(answered).toEqual(answered.map((_, i) => i + 1));
}
