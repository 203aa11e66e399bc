/** `fork(killed-client.ts, [SOCKET, HOW])`: a client to be killed, in the middle of a message or of its traffic ('unshared': in memory without descriptors). Says "now" and goes on. */
import { linux } from '@emudev/linux';
import { encodeConfigVsiQueues, encodeQueueSelect, Opcode } from '@emudev/virtchnl';
import { concat, fields, LVU_VERSION, message, RawClient } from '../../../../packages/vfio-user-server/test/raw-client.ts';
import { HandDriver, RAM_IOVA } from './hand-driver.ts';

const [socket, how] = process.argv.slice(2) as [string, string];
setInterval(() => undefined, 60_000);
if (how === 'message') {
  const client = RawClient.connect(socket);
  await client.request(1, LVU_VERSION);
  const file = linux.memfdCreate('hostile-client', { allowSealing: true });
  linux.ftruncate(file, 0x10000);
  const map = message(2, 2, fields(32, 3, 0n, 0n, 0x10000n));
  client.send(concat(message(1, 2, fields(32, 3, 0n, 0x100000n, 0x10000n)), map).subarray(0, 70), [file]);
} else {
  const driver = await HandDriver.attach(socket, how === 'unshared' ? 'everything' : 'nothing');
  await driver.request(Opcode.CONFIG_VSI_QUEUES, encodeConfigVsiQueues({
    vsiId: 1, pairs: [{ tx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA }, rx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA + 0x10000n, bufferBytes: 2048, maxPacketBytes: 9728 } }],
  }));
  await driver.request(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, rxQueues: 1, txQueues: 1 }));
  driver.setTail('rx', 0, 63);
  if (how === 'unshared') {
    const { window, ram } = driver;
    for (let slot = 0; slot < 64; slot++) {
      window.view.setBigUint64(ram.offset + 16 * slot, RAM_IOVA + 0x20000n, true);
      window.view.setBigUint64(ram.offset + 16 * slot + 8, 0x30n | (300n << 34n), true);
    }
  }
  // Frames of zeroes, for ever: the ring is read over and over.
  let tail = 0;
  setInterval(() => {
    for (let n = 0; n < 32; n++) driver.setTail('tx', 0, (tail = (tail + 1) & 63));
  }, 1);
}
process.send!('now');
