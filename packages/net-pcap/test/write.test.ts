import { spawnSync } from 'node:child_process';
import { statSync, truncateSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FRAME_RX_VLAN } from '@emudev/ethdev';
import { frame, readWritten } from './fixtures/captures.ts';
import { Folder, Rig } from './fixtures/rig.ts';

let folder: Folder;
beforeEach(() => {
  folder = new Folder();
});
afterEach(() => {
  folder[Symbol.dispose]();
});

const written = (): Uint8Array[] => readWritten(folder.get('out.pcap')).records.map((record) => record.data);

/** Polls: the file system tells nobody. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('not within 5 s');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('what is sent', () => {
  test('is in the file once the port is closed, with the time and the length it had', async () => {
    const frames = [14, 60, 61, 1514, 9728].map((length, i) => frame(i, length));
    const before = Date.now();
    {
      await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
      expect(rig.push(frames)).toBe(5);
      expect(rig.port.stats()).toMatchObject({ opackets: 5n, obytes: 11_377n, oerrors: 0n, ipackets: 0n });
      expect(rig.pull()).toEqual([]);
      expect(rig.port.finished).toBe(true);
    }
    const { snaplen, records } = readWritten(folder.get('out.pcap'));
    expect(snaplen).toBe(65_535);
    expect(records.map((record) => record.data)).toEqual(frames);
    for (const { seconds, microseconds, origLength, data } of records) {
      expect(origLength).toBe(data.length);
      expect(microseconds).toBeLessThan(1_000_000);
      // The clock may have been set since this process began.
      expect(Math.abs(seconds * 1000 + microseconds / 1000 - before)).toBeLessThan(60_000);
    }
  });

  test('is in the file once its lcore stops using the port, and once the port stops', async () => {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    rig.push([frame(1)]);
    rig.closeDatapath();
    expect(written()).toEqual([frame(1)]);
    await rig.reopen();
    rig.push([frame(2)]);
    await rig.port.stop();
    expect(written()).toEqual([frame(1), frame(2)]);
  });

  test('is in the file soon, though nothing more is sent and nobody stops', async () => {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    expect(written()).toEqual([]);
    rig.push([frame(1), frame(2)]);
    await until(() => statSync(folder.file('out.pcap')).size > 24);
    expect(written()).toEqual([frame(1), frame(2)]);
  });

  test('is written in few large pieces, in order', async () => {
    const frames = Array.from({ length: 32 }, (_, i) => frame(i, 9000 + i));
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    const sizes = new Set<number>();
    for (let i = 0; i < 10; i++) {
      rig.push(frames);
      sizes.add(statSync(folder.file('out.pcap')).size);
    }
    await rig.port.stop();
    expect(written()).toEqual(Array.from({ length: 10 }, () => frames).flat());
    // 2.9 MB in pieces of at most 256 KiB: sizes seen meanwhile end where a record does.
    expect(sizes.size).toBeGreaterThan(5);
  });

  test('is cut at snaplen, with its length kept', async () => {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')},snaplen=64`);
    rig.push([frame(1, 64), frame(2, 65), frame(3, 9728), frame(4, 20)]);
    await rig.port.stop();
    const { snaplen, records } = readWritten(folder.get('out.pcap'));
    expect(snaplen).toBe(64);
    expect(records.map(({ data }) => data)).toEqual([frame(1, 64), frame(2, 65).slice(0, 64), frame(3, 9728).slice(0, 64), frame(4, 20)]);
    expect(records.map(({ origLength }) => origLength)).toEqual([64, 65, 9728, 20]);
    expect(rig.count('pcap_tx_truncated')).toBe(2n);
  });

  test('has its VLAN tag back', async () => {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    rig.push([frame(1, 60), frame(2, 9728)], { flags: FRAME_RX_VLAN, vlanTci: 0x6005 });
    await rig.port.stop();
    const tagged = (f: Uint8Array): Uint8Array => new Uint8Array(Buffer.concat([f.slice(0, 12), Uint8Array.of(0x81, 0, 0x60, 5), f.slice(12)]));
    expect(written()).toEqual([tagged(frame(1, 60)), tagged(frame(2, 9728))]);
  });

  test('too long a frame is an error, and not in the file', async () => {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    expect(rig.push([frame(1), frame(2, 9729), frame(3)])).toBe(3);
    await rig.port.stop();
    expect(written()).toEqual([frame(1), frame(3)]);
    expect(rig.port.stats()).toMatchObject({ opackets: 2n, obytes: 120n, oerrors: 1n });
  });
});

test('an old file is overwritten; captures are private', async () => {
  folder.put('old.pcap', new Uint8Array(10_000));
  {
    await using rig = await Rig.start(`tx_pcap=${folder.file('old.pcap')}`);
    expect(folder.get('old.pcap')).toHaveLength(24);
    rig.push([frame(1)]);
  }
  expect(readWritten(folder.get('old.pcap')).records).toHaveLength(1);
  await using _rig = await Rig.start(`tx_pcap=${folder.file('new.pcap')}`);
  expect(statSync(folder.file('new.pcap')).mode & 0o777).toBe(0o600);
});

test('a file that somebody empties meanwhile has no hole', async () => {
  await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
  rig.push([frame(1)]);
  rig.closeDatapath();
  truncateSync(folder.file('out.pcap'), 24);
  rig.push([frame(2)]);
  await rig.port.stop();
  expect(written()).toEqual([frame(2)]);
});

test('what was written is received again by a port that reads', async () => {
  const frames = Array.from({ length: 32 }, (_, i) => frame(i, 14 + i * 300));
  {
    await using writer = await Rig.start(`tx_pcap=${folder.file('out.pcap')}`);
    for (let i = 0; i < 5; i++) writer.push(frames);
  }
  await using reader = await Rig.start(`rx_pcap=${folder.file('out.pcap')}`);
  expect(reader.pullAll()).toEqual(Array.from({ length: 5 }, () => frames).flat());
});

test('tcpdump reads what was written', async () => {
  {
    await using rig = await Rig.start(`tx_pcap=${folder.file('out.pcap')},snaplen=200`);
    rig.push([frame(1, 60), frame(2, 1514)]);
  }
  const tcpdump = spawnSync('tcpdump', ['-r', folder.file('out.pcap'), '-nn', '-e', '-xx', '-tt'], { encoding: 'utf8' });
  if (tcpdump.error !== undefined) throw new Error(`this test needs tcpdump (apt-get install tcpdump): ${tcpdump.error.message}`);
  expect(tcpdump.status).toBe(0);
  expect(tcpdump.stderr).toMatch(/link-type EN10MB \(Ethernet\), snapshot length 200/);
  const packets = tcpdump.stdout.split(/^(?=\d+\.\d{6} )/m);
  expect(packets).toHaveLength(2);
  expect(packets[0]).toMatch(/52:54:00:00:00:02 > 52:54:00:00:00:01, ethertype .*0x88b5.*, length 60:/);
  expect(packets[1]).toMatch(/length 1514:/);
  const hex = (text: string): string => [...text.matchAll(/^\t0x[\da-f]+:((?: {1,2}[\da-f]{2,4})+)/gm)].map((line) => line[1]!.replaceAll(' ', '')).join('');
  expect(hex(packets[0]!)).toBe(Buffer.from(frame(1, 60)).toString('hex'));
  expect(hex(packets[1]!)).toBe(Buffer.from(frame(2, 1514).slice(0, 200)).toString('hex'));
});
