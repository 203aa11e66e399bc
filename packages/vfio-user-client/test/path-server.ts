/** A server at a path that can leave and come back: the peer of reconnect tests, in this process and as a program of its own. */
import { linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { rmSync } from 'node:fs';
import { FakeServer, greet } from './fake-server.ts';
import type { Handler } from './fake-server.ts';

export interface Shape {
  readonly info?: p.DeviceInfo;
  readonly capabilities?: p.Capabilities;
  readonly barBytes?: number;
  readonly vectors?: number;
  /** Answers nothing, VERSION neither. */
  readonly silent?: boolean;
  /** Refuses these commands. */
  readonly refuse?: readonly number[];
}

/** A small device: region 0 is memory with a file, region 7 configuration space, 16 MSI-X vectors. Everything else succeeds. */
export function smallDevice(shape: Shape = {}, memory: Uint8Array = new Uint8Array(4096), file = -1): Handler {
  const sizeOf = (index: number): number => (index === 0 ? shape.barBytes ?? 4096 : index === 7 ? 256 : 0);
  return (frame, server) => {
    if (shape.refuse?.includes(frame.command) === true) return server.refuse(frame, p.EINVAL);
    switch (frame.command) {
      case p.VFIO_USER_DEVICE_GET_REGION_INFO: {
        const { index } = p.decodeGetRegionInfo(frame.payload);
        return server.reply(frame, p.encodeRegionInfo({ flags: sizeOf(index) === 0 ? 0 : index === 0 ? 7 : 3, index, sizeBytes: sizeOf(index), fileOffset: 0 }, 32).payload, index === 0 && file !== -1 ? [file] : []);
      }
      case p.VFIO_USER_DEVICE_GET_IRQ_INFO: {
        const { index } = p.decodeGetIrqInfo(frame.payload);
        return server.reply(frame, p.encodeIrqInfo({ flags: 1, index, count: index === 2 ? shape.vectors ?? 16 : 1 }));
      }
      case p.VFIO_USER_REGION_READ: {
        const access = p.decodeRegionRead(frame.payload, 64);
        const reply = p.newRegionReadReply(frame.id, access);
        reply.set(memory.subarray(access.offset, access.offset + access.count), p.REGION_DATA_AT);
        return server.send(reply);
      }
      case p.VFIO_USER_REGION_WRITE: {
        const access = p.decodeRegionWrite(frame.payload, 64);
        memory.set(access.data, access.offset);
        if (!p.isPosted(frame.flags)) server.send(p.newRegionWriteReply(frame.id, access));
        return;
      }
      case p.VFIO_USER_DMA_UNMAP:
        return server.reply(frame, p.encodeDmaUnmapReply(p.decodeDmaUnmap(frame.payload)));
      case p.VFIO_USER_DEVICE_FEATURE:
        return server.reply(frame, frame.payload);
      default:
        return server.reply(frame);
    }
  };
}

export class PathServer implements Disposable {
  readonly path: string;
  readonly connections: FakeServer[] = [];
  readonly #listener: number;
  readonly #accepting: Disposable;

  constructor(path: string, handler: Handler, shape: Shape = {}) {
    this.path = path;
    rmSync(path, { force: true });
    this.#listener = linux.unixListen(path, 8);
    this.#accepting = linux.watch(this.#listener, { readable: true }, () => {
      const fd = linux.unixAccept(this.#listener);
      if (fd !== undefined) this.connections.push(new FakeServer(fd, shape.silent === true ? handler : greet(handler, shape.info, shape.capabilities)));
    });
  }

  /** The connection made last. */
  get last(): FakeServer {
    return this.connections.at(-1)!;
  }

  /** As a process that dies: listener and connections go at once, the socket file stays. */
  [Symbol.dispose](): void {
    this.#accepting[Symbol.dispose]();
    linux.close(this.#listener);
    for (const connection of this.connections) connection.close();
  }
}
