/** A client that does nothing wrong: what it asks after each hostile session has to be answered, and rightly. */
import { linux } from '@emudev/linux';
import {
  decodeDeviceInfo, decodeRegionReadReply, decodeVersion, encodeDeviceGetInfo, encodeMessage, encodeRegionRead, encodeVersion, FrameReader, MAX_FRAME_BYTES, replyErrno,
  VFIO_USER_DEVICE_GET_INFO, VFIO_USER_REGION_READ, VFIO_USER_VERSION, type Frame,
} from '@emudev/vfio-user-protocol';
import { FuzzFailure } from '../failure.ts';
import { ANSWER_DEADLINE_MS } from '../limits.ts';
import { DEVICE_ID, VENDOR_ID } from './fuzz-device.ts';

/** @throws FuzzFailure */
export function askSanely(path: string): void {
  const fd = linux.unixConnect(path);
  const reader = new FrameReader({ maxFrameBytes: MAX_FRAME_BYTES, maxFds: 16 });
  const buffer = new Uint8Array(4096);
  const ask = (id: number, command: number, payload: Uint8Array): Uint8Array => {
    linux.sendmsg(fd, encodeMessage(id, command, 0, payload), []);
    const frame = receive(fd, reader, buffer);
    if (frame.id !== id || frame.command !== command || replyErrno(frame) !== 0) throw new FuzzFailure(`a sane client's command ${command} was answered by id ${frame.id}, command ${frame.command}, errno ${replyErrno(frame)}`);
    return frame.payload;
  };
  try {
    const { minor } = decodeVersion(ask(1, VFIO_USER_VERSION, encodeVersion({ major: 0, minor: 2, capabilities: { maxMsgFds: 16 } })));
    const info = decodeDeviceInfo(ask(2, VFIO_USER_DEVICE_GET_INFO, encodeDeviceGetInfo()));
    const ids = decodeRegionReadReply(ask(3, VFIO_USER_REGION_READ, encodeRegionRead({ offset: 0, region: 7, count: 4 }))).data;
    const seen = [minor, info.flags, info.numRegions, info.numIrqs, ids[0]! | (ids[1]! << 8), ids[2]! | (ids[3]! << 8)];
    const wanted = [2, 3, 9, 5, VENDOR_ID, DEVICE_ID];
    if (seen.join() !== wanted.join()) throw new FuzzFailure(`a sane client sees ${seen.join()} instead of ${wanted.join()}`);
  } finally {
    for (const left of reader.dispose()) linux.close(left);
    linux.close(fd);
  }
}

function receive(fd: number, reader: FrameReader, buffer: Uint8Array): Frame {
  const poll = Int32Array.of(fd);
  const deadline = performance.now() + ANSWER_DEADLINE_MS;
  for (;;) {
    const got = linux.recvmsg(fd, buffer, 16);
    if (got === undefined) {
      if (performance.now() > deadline) throw new FuzzFailure(`a sane client got no answer within ${ANSWER_DEADLINE_MS} ms`);
      linux.pollIn(poll, 1, 10_000_000);
      continue;
    }
    if (got.bytes === 0) throw new FuzzFailure('a sane client was disconnected');
    const { frames: [frame], error } = reader.push(buffer.subarray(0, got.bytes), got.fds);
    if (error !== undefined) throw new FuzzFailure(`a sane client was sent an impossible message: ${error.message}`);
    if (frame !== undefined) return frame;
  }
}
