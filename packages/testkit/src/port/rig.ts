/** What the cases of the port suite have in common. */
import { equal, ok } from 'node:assert/strict';
import type { Port, PortDatapath, PortStats } from '@emudev/ethdev';
import { FrameBench, testFrame } from '../fakes/frames.ts';

/** A port and what a suite may know about it. */
export interface PortUnderTest {
  readonly port: Port;
  /** Makes the port receive frames like these, as many as there is room for. Without it the suite takes what comes by itself, be it nothing. */
  supply?(frames: readonly Uint8Array[]): void;
  /** Frames that have arrived at the far end of the port since it was made. */
  delivered?(): number | Promise<number>;
  /** Called when the port has been closed. */
  dispose?(): void | Promise<void>;
}

/** Makes a new port of this name, not yet configured; called once per case. */
export type PortFactory = (name: string) => Port | PortUnderTest | Promise<Port | PortUnderTest>;

/** What the port cases know of the port under test. */
export interface PortConformanceOptions {
  /** What is sent on a queue is received on it, unchanged and in order. */
  readonly loopback?: boolean;
  /** A frame that the port carries to its far end; `testFrame` by default. */
  frame?(number: number, lengthBytes?: number): Uint8Array;
  /** Frames taken so far that are counted, but neither as sent nor as errors: what a card's filter kept out, or no guest had room for. */
  alsoCounted?(port: Port): bigint;
}

/** A port under test, its bursts, and the way there. */
export class PortRig {
  readonly port: Port;
  readonly options: PortConformanceOptions;
  readonly bench: FrameBench;
  readonly subject: PortUnderTest;
  #number = 0;

  constructor(subject: PortUnderTest, options: PortConformanceOptions, bench: FrameBench) {
    this.subject = subject;
    this.port = subject.port;
    this.options = options;
    this.bench = bench;
  }

  /** As many queues as the port has; `queues` of each kind at most. */
  async configure(queues: number = Number.POSITIVE_INFINITY): Promise<void> {
    const { maxRxQueues, maxTxQueues } = this.port.info;
    await this.port.configure({ rxQueues: Math.min(queues, maxRxQueues), txQueues: Math.min(queues, maxTxQueues), peerTxCapabilities: 0 });
  }

  async started(queues?: number): Promise<PortDatapath> {
    await this.configure(queues);
    await this.port.start();
    return this.bench.load(this.port);
  }

  /** Frames taken that the port accounts for: sent, in error, or counted elsewhere. */
  accounted(): bigint {
    const { opackets, oerrors } = this.port.stats();
    return opackets + oerrors + (this.options.alsoCounted?.(this.port) ?? 0n);
  }

  frames(count: number, lengthBytes?: number): Uint8Array[] {
    return Array.from({ length: count }, () => (this.options.frame ?? testFrame)(++this.#number, lengthBytes));
  }
}

export type PortCase = (body: (rig: PortRig) => void | Promise<void>) => Promise<void>;

/** Makes a port, hands it to the body, closes it whatever happens. */
export async function withPort(factory: PortFactory, options: PortConformanceOptions, body: (rig: PortRig) => void | Promise<void>): Promise<void> {
  using bench = new FrameBench();
  const made = await factory('net_conformance0');
  const subject = 'port' in made ? made : { port: made };
  try {
    await body(new PortRig(subject, options, bench));
  } finally {
    // What goes wrong here is the business of the cases about closing.
    await Promise.resolve(subject.port.close()).catch(() => undefined);
    await subject.dispose?.();
  }
}

const FIELDS: readonly (keyof PortStats)[] = ['ipackets', 'opackets', 'ibytes', 'obytes', 'imissed', 'ierrors', 'oerrors', 'rxNombuf'];

/** By how much each counter has grown. */
export function growth(before: PortStats, after: PortStats): Record<keyof PortStats, number> {
  return Object.fromEntries(FIELDS.map((field) => [field, Number(after[field] - before[field])])) as Record<keyof PortStats, number>;
}

/** All counters are there, as non-negative bigints. */
export function checkStats(stats: PortStats): void {
  for (const field of FIELDS) {
    equal(typeof stats[field], 'bigint', `stats().${field} is a bigint`);
    ok(stats[field] >= 0n, `stats().${field} is ${stats[field]}`);
  }
}

/** No counter has gone back. */
export function checkMonotonic(what: string, before: PortStats, after: PortStats): void {
  for (const field of FIELDS) ok(after[field] >= before[field], `${what}: ${field} went back from ${before[field]} to ${after[field]}`);
}
