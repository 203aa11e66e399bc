/** Answers 200 rounds of signals and messages from inside pollIn, then one from inside watch, then ends by itself. */
import { parentPort, workerData } from 'node:worker_threads';
import { linux } from '@emudev/linux';

const { ping, pong, socket } = workerData as { ping: number; pong: number; socket: number };
parentPort!.postMessage('ready');
const into = new Uint8Array(4);
for (let i = 0; i < 200; i++) {
  linux.pollIn(Int32Array.of(ping), 1, -1);
  linux.eventfdDrain(ping);
  linux.eventfdSignal(pong);
  linux.pollIn(Int32Array.of(socket), 1, -1);
  const got = linux.recvmsg(socket, into, 4)!;
  linux.sendmsg(socket, into.subarray(0, got.bytes), got.fds);
  for (const fd of got.fds) linux.close(fd);
}
parentPort!.once('message', () => {
  const watcher = linux.watch(ping, { readable: true }, () => {
    watcher[Symbol.dispose]();
    parentPort!.postMessage('watched');
  });
  parentPort!.postMessage('watching');
});
