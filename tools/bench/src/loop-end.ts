/**
 * One end of a loop in a process of its own: a port forwards to itself whatever comes, primed with frames (testpmd's `start tx_first`)
 * or not. Says `{"ready":true}` when they are on their way, and answers every line on stdin by the count of received frames and the time.
 */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { attachWindow, Quiescence, type Window } from '@emudev/dma';
import { allocateBurst, LcorePool, type CreateDatapath, type DatapathSpec, type Port } from '@emudev/ethdev';
import { tcpFrame } from './tcp-frame.ts';

export interface LoopEnd {
  /** Of the frames in turn. */
  readonly frameBytes: number | readonly number[];
  /** `tcp`: TCP over IPv4; `tcp-checksums`: and whatever is sent asks the port for its checksums. Default: an experimental EtherType. */
  readonly content?: 'tcp' | 'tcp-checksums' | undefined;
  /** Frames this end sends at first. */
  readonly inFlight: number;
  readonly burst: number;
}

/**
 * Descriptors of the driver's rings that hold the frames under way and two bursts: what is longer makes the loop go round more buffers, and
 * those of 1500 bytes do not fit into the cache any more.
 */
export function ringsFor(inFlight: number, burst: number): { readonly rxDescriptors: number; readonly txDescriptors: number } {
  const length = Math.ceil((inFlight + 2 * burst) / 32) * 32;
  return { rxDescriptors: length, txDescriptors: length };
}

async function prime(port: Port, window: Window, { frameBytes, inFlight, content }: LoopEnd): Promise<void> {
  const sizes = typeof frameBytes === 'number' ? [frameBytes] : frameBytes;
  const { module, init } = port.datapath();
  const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
  const datapath = await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0, sendsTo: [] }, init as never);
  using burst = allocateBurst(window, 1);
  window.u8.set(port.info.mac!, burst.arena);
  window.u8.set([2, 0, 0, 0, 0, 1, 0x88, 0xb5], burst.arena + 6);
  window.u32[burst.records >>> 2] = burst.arena;
  let sent = 0;
  while (sent < inFlight) {
    const bytes = sizes[sent % sizes.length]!;
    if (content !== undefined) window.u8.set(tcpFrame(port.info.mac!, bytes), burst.arena);
    window.u32[(burst.records >>> 2) + 1] = bytes;
    sent += datapath.txBurst(0, burst, 1);
  }
}

/** The same port, whose lcores ask it for checksums whatever they send. */
function askingForChecksums(port: Port): Port {
  const datapath = (): DatapathSpec => ({ module: fileURLToPath(new URL('./checksum-datapath.ts', import.meta.url)), init: port.datapath() });
  return new Proxy(port, {
    get(target, key): unknown {
      if (key === 'datapath') return datapath;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Resolves when stdin says `quit` or ends; `port` is opened and not configured yet, and stopped afterwards. */
export async function goRound(port: Port, window: Window, end: LoopEnd): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const pool = undo.use(await LcorePool.start(1, { window, quiescence: Quiescence.of(window) }));
  await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
  await port.start();
  undo.defer(() => port.stop());
  console.log('started');
  while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));
  await prime(port, window, end);
  const [lcore] = pool.lcores;
  const txPort = end.content === 'tcp-checksums' ? askingForChecksums(port) : port;
  const stream = await lcore!.addStream({ rxPort: port, rxQueue: 0, txPort, txQueue: 0, engine: { name: 'io' }, burst: end.burst });
  undo.defer(() => lcore!.removeStream(stream));

  console.log(JSON.stringify({ ready: true }));
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'quit') break;
    const { ipackets, oerrors, ierrors } = port.stats();
    console.log(JSON.stringify({ received: Number(ipackets), at: performance.now(), lost: Number(oerrors + ierrors + stream.stats().dropped) }));
  }
}
