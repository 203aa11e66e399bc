/** The port as it is used: polled by worker threads that load the built data path. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { VdevBus } from '@emudev/emudev';
import { Forwarding, LcorePool } from '@emudev/ethdev';
import { linux } from '@emudev/linux';
import { driver, type PcapPort } from '@emudev/net-pcap';
import { CaptureWriter } from '../src/datapath/writer.ts';
import type { PcapInit } from '../src/port-memory.ts';
import { captureFile, frame, readWritten } from './fixtures/captures.ts';
import { Folder } from './fixtures/rig.ts';

let folder: Folder;
beforeEach(() => {
  folder = new Folder();
});
afterEach(() => {
  folder[Symbol.dispose]();
});

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('two ports exchange their files through two lcores, while the control thread writes what they gather', async () => {
  const a = Array.from({ length: 20_000 }, (_, i) => frame(i, 14 + ((i * 37) % 500)));
  const b = Array.from({ length: 2000 }, (_, i) => frame(i + 7, 60 + (i % 9000)));
  folder.put('a.pcap', captureFile(a));
  folder.put('b.pcap', captureFile(b, { bigEndian: true, nanoseconds: true }));
  {
    using window = Window.open();
    using quiescence = new Quiescence(window);
    await using bus = new VdevBus().register(driver);
    const port = async (name: string, rx: string, tx: string): Promise<PcapPort> =>
      (await bus.probe(`${name},rx_pcap=${folder.file(rx)},tx_pcap=${folder.file(tx)}`)).device as PcapPort;
    const one = await port('net_pcap0', 'a.pcap', 'from-b.pcap');
    const two = await port('net_pcap1', 'b.pcap', 'from-a.pcap');
    await using pool = await LcorePool.start(2, { window, quiescence });
    const forwarding = new Forwarding(pool);
    await forwarding.start([{ a: one, b: two }]);
    expect([one.link(), two.link()]).toEqual([{ up: true, speedMbps: 10_000 }, { up: true, speedMbps: 10_000 }]);
    // The timer's job, much more often.
    const writers = [one, two].map((p) => new CaptureWriter(window, (p.datapath().init as PcapInit).writer!, linux));
    await until(() => {
      for (const writer of writers) for (let i = 0; i < 100; i++) writer.flush(false);
      return one.finished && two.finished;
    }, 'both files are read');
    await forwarding.stop();
    expect([one.stats(), two.stats()]).toMatchObject([
      { ipackets: 20_000n, opackets: 2000n, ierrors: 0n, oerrors: 0n },
      { ipackets: 2000n, opackets: 20_000n, ierrors: 0n, oerrors: 0n },
    ]);
    expect(forwarding.report()).toEqual([]);
  }
  const same = (name: string, frames: readonly Uint8Array[]): boolean => Buffer.compare(Buffer.concat(readWritten(folder.get(name)).records.map((r) => r.data)), Buffer.concat(frames)) === 0;
  expect([same('from-a.pcap', a), same('from-b.pcap', b)]).toEqual([true, true]);
});
