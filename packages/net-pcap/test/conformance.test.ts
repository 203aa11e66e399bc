import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { PcapPort } from '@emudev/net-pcap';
import { portConformance } from '@emudev/testkit';

const folder = mkdtempSync(join(tmpdir(), 'net-pcap-'));
const capture = join(folder, 'in.pcap');

/** One that the driver itself has written. */
beforeAll(async () => {
  const port = PcapPort.open('net_pcap0', { tx_pcap: capture });
  await port.close();
});
afterAll(() => { rmSync(folder, { recursive: true }); });

describe('both files', () => {
  for (const { title, run } of portConformance((name) => PcapPort.open(name, { rx_pcap: capture, tx_pcap: join(folder, 'out.pcap') }))) test(title, run);
});
