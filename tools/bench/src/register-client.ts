/**
 * The client process of the control-path table: `node register-client.ts SOCKET KIND`. Reads one 32-bit register again and again;
 * each line on stdin (milliseconds) is answered by the round trips of that time.
 *
 * `ours` is @emudev/vfio-user-client; `blocking` sends, then sleeps in recvmsg until the reply is there, as most clients in C do.
 */
import { createInterface } from 'node:readline';
import { linux } from '@emudev/linux';
import { encodeMessage, encodeRegionRead, encodeVersion, VFIO_USER_F_TYPE_COMMAND, VFIO_USER_REGION_READ, VFIO_USER_VERSION } from '@emudev/vfio-user-protocol';

const MAX_SAMPLES = 1 << 20;
const samples = new Float64Array(MAX_SAMPLES);
const WORD = 0x5a5a5a5a;

function report(count: number): void {
  const sorted = samples.slice(0, count).sort();
  let sum = 0;
  for (const sample of sorted) sum += sample;
  const at = (share: number): number => sorted[Math.min(count - 1, Math.floor(share * count))]! * 1000;
  console.log(JSON.stringify({ roundTrips: count, p50: at(0.5), p99: at(0.99), mean: (sum / count) * 1000 }));
}

const [path = '', kind = ''] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin });

if (kind === 'blocking') {
  const socket = linux.unixConnect(path);
  linux.setNonBlocking(socket, false);
  const received = new Uint8Array(new ArrayBuffer(1 << 16));
  const exchange = (message: Uint8Array): number => {
    linux.sendmsg(socket, message, []);
    return linux.recvmsgBlocking(socket, received, 0).bytes;
  };
  exchange(encodeMessage(1, VFIO_USER_VERSION, VFIO_USER_F_TYPE_COMMAND, encodeVersion({ major: 0, minor: 0, capabilities: {} })));
  const request = encodeMessage(2, VFIO_USER_REGION_READ, VFIO_USER_F_TYPE_COMMAND, encodeRegionRead({ region: 0, offset: 0, count: 4 }));
  const reply = new DataView(received.buffer);
  console.log('ready');
  for await (const line of lines) {
    const until = performance.now() + Number(line);
    let count = 0;
    for (let now = performance.now(); now < until && count < MAX_SAMPLES;) {
      const bytes = exchange(request);
      const then = performance.now();
      if (bytes !== 36 || reply.getUint32(32, true) !== WORD) throw new Error(`a reply of ${bytes} bytes`);
      samples[count++] = then - now;
      now = then;
    }
    report(count);
  }
} else {
  const { VfioUserClient } = await import('@emudev/vfio-user-client');
  const client = await VfioUserClient.connect(path, { spin: true });
  console.log('ready');
  for await (const line of lines) {
    const until = performance.now() + Number(line);
    let count = 0;
    for (let now = performance.now(); now < until && count < MAX_SAMPLES;) {
      const word = await client.read32(0, 0);
      const then = performance.now();
      if (word !== WORD) throw new Error(`read ${word}`);
      samples[count++] = then - now;
      now = then;
    }
    report(count);
  }
  await client.close();
}
