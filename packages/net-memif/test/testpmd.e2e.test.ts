/** Against DPDK's own driver, in both roles: frames go through testpmd and come back; either side is killed and comes back. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { FrameBench, expectNoLeaks } from '@emudev/testkit';
import { describe, expect, test } from 'vitest';
import { MemifPort } from '@emudev/net-memif';
import { Folder, link, started } from './support/ports.ts';
import { Testpmd, fileThere, testpmdIsThere } from './support/testpmd.ts';

const PATIENCE_MS = 20_000;
const theirs = (role: 'server' | 'client', { socket }: Folder, more = ''): string => `net_memif0,role=${role},socket=${socket},socket-abstract=no${more}`;
const ours = (role: 'server' | 'client', { socket }: Folder, more = {}): MemifPort => MemifPort.open('net_memif1', { role, socket, socketAbstract: false, reconnectMs: 20, ...more });

function frameOf(n: number): Uint8Array {
  // Now and then longer than a packet buffer: a chain of descriptors each way.
  const frame = new Uint8Array(n % 50 === 0 ? 2049 + (n * 13) % 6000 : 60 + (n * 7) % 1455).fill(n & 0xff);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  new DataView(frame.buffer).setUint32(14, n);
  return frame;
}

/** Sends `count` frames and compares what comes back. */
async function roundTrip(port: MemifPort, count: number): Promise<void> {
  using bench = new FrameBench();
  const datapath = await bench.load(port);
  let sent = 0;
  let seen = 0;
  const deadline = performance.now() + PATIENCE_MS;
  while (seen < count) {
    // Fewer under way than any ring or mempool has room for: nothing may be lost.
    if (sent < count && sent - seen < 128) sent += bench.send(datapath, 0, Array.from({ length: Math.min(16, count - sent) }, (_, i) => frameOf(sent + i)));
    const frames = bench.receive(datapath, 0);
    for (const { bytes } of frames) {
      const wanted = frameOf(seen);
      if (Buffer.compare(bytes, wanted) !== 0) throw new Error(`frame ${seen} of ${wanted.length} bytes: ${bytes.length} bytes came back, different from byte ${bytes.findIndex((byte, i) => byte !== wanted[i])} on; number ${Buffer.from(bytes).readUInt32BE(14)}`);
      seen++;
    }
    if (frames.length === 0) {
      if (performance.now() > deadline) throw new Error(`${seen} of ${sent} frames came back`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  datapath.close?.();
}

/** A process of ours with a port that is the other end, until it is killed; says when frames have gone round. */
class Child implements AsyncDisposable {
  readonly #child: ChildProcess;
  #text = '';
  constructor(role: 'server' | 'client', folder: Folder) {
    this.#child = spawn(process.execPath, ['--no-warnings', new URL('./support/round-trip.ts', import.meta.url).pathname, role, folder.socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.#text += text; });
  }
  async said(word: string): Promise<void> {
    while (!this.#text.includes(word)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error(`the process ended without saying "${word}"`);
      await Promise.race([once(this.#child.stdout!, 'data'), once(this.#child, 'exit')]);
    }
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

describe.runIf(testpmdIsThere())('dpdk-testpmd', () => {
  test('is our client: frames come back unchanged; it is killed, and another one is served', async () => {
    using folder = new Folder();
    await expectNoLeaks(async () => {
      const port = await started(ours('server', folder));
      for (const more of ['', ',bsize=512,rsize=10']) {
        const testpmd = await Testpmd.start(theirs('client', folder, more));
        await link(port, true, PATIENCE_MS);
        await roundTrip(port, 20_000);
        await testpmd.kill();
        await link(port, false, PATIENCE_MS);
      }
      expect(port.stats()).toMatchObject({ ipackets: 40_000n, opackets: 40_000n, ierrors: 0n, oerrors: 0n });
      await port.close();
    });
  });

  test('is our server: frames come back unchanged; it is killed, and its successor is found', async () => {
    using folder = new Folder();
    await expectNoLeaks(async () => {
      const port = await started(ours('client', folder));
      for (let n = 0; n < 2; n++) {
        const testpmd = await Testpmd.start(theirs('server', folder));
        await link(port, true, PATIENCE_MS);
        await roundTrip(port, 20_000);
        await testpmd.kill();
        await link(port, false, PATIENCE_MS);
        // DPDK does not replace the socket of a dead server.
        folder.removeSocket();
      }
      expect(port.stats()).toMatchObject({ ipackets: 40_000n, opackets: 40_000n, ierrors: 0n, oerrors: 0n });
      await port.close();
    });
  });

  // DPDK gives the memory of a dead peer back while its own lcore polls it, and dies of that (seen with 22.11): so it stands still meanwhile.
  test('serves one of our processes after the other, each killed', async () => {
    using folder = new Folder();
    await using testpmd = await Testpmd.start(theirs('server', folder));
    await fileThere(folder.socket);
    for (let n = 0; n < 2; n++) {
      await using child = new Child('client', folder);
      await child.said('round');
      await testpmd.stop();
      await child[Symbol.asyncDispose]();
      await testpmd.forward();
    }
  });

  test('comes back to our server that was killed, once its port is started again', async () => {
    using folder = new Folder();
    await using first = new Child('server', folder);
    await first.said('listening');
    await using testpmd = await Testpmd.start(theirs('client', folder));
    await first.said('round');
    await testpmd.stop();
    await first[Symbol.asyncDispose]();
    await using second = new Child('server', folder);
    await second.said('listening');
    for (const command of ['port stop 0', 'port start 0']) testpmd.say(command);
    await testpmd.forward();
    await second.said('round');
  });

  test('has to know the secret', async () => {
    using folder = new Folder();
    const port = await started(ours('server', folder, { secret: 'open sesame' }));
    await using wrong = await Testpmd.start(theirs('client', folder, ',secret=open'));
    await wrong.ever(/Disconnect received: the secret is missing or wrong/);
    await using right = await Testpmd.start(theirs('client', folder, ',secret=open sesame'));
    await link(port, true, PATIENCE_MS);
    await roundTrip(port, 100);
    await right.kill();
    await port.close();
  });

  test('finds us by an abstract name', async () => {
    const socket = `emudev-memif-testpmd-${process.pid}`;
    const port = await started(MemifPort.open('net_memif1', { role: 'server', socket }));
    await using _testpmd = await Testpmd.start(`net_memif0,role=client,socket=${socket}`);
    await link(port, true, PATIENCE_MS);
    await roundTrip(port, 100);
    await port.close();
  });
});
