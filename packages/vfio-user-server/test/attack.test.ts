/**
 * One client of the process attacks, another device of the same process is asked for registers meanwhile: it answers every time.
 * Afterwards nothing of the attacker is left. No clock takes part: what is awaited is the neighbour's answers.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { linux, LinuxError } from '@emudev/linux';
import { afterAll, describe, expect, it } from 'vitest';
import type { VfioUserServerOptions } from '../src/index.ts';
import { FakeDevice, memfd, nextEvent, serve, window, type Served } from './fixture.ts';
import { concat, fields, message, NO_REPLY } from './raw-client.ts';
import { access, DMA_MAP, dmaMap, EFAULT, EPERM, GET_INFO, info, PAGE, READ, REGION_INFO, regionInfo, WRITE } from './requests.ts';

const READS = 200;
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

function openFds(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      // The directory that was being read.
      return [];
    }
  });
}

interface Attack {
  readonly given?: () => { readonly device?: FakeDevice; readonly version?: Uint8Array | null; readonly server?: Partial<VfioUserServerOptions> };
  /** Called again and again, between the neighbour's answers. */
  step(s: Served<FakeDevice>, n: number): void;
  /** What must hold while it goes on. */
  meanwhile?(s: Served<FakeDevice>): void;
}

/** What is open: descriptors, by name, so that a failure says which; mappings and bytes of the window. */
const open = (): object => ({ fds: openFds(), mappings: window.mappingCount, bytes: window.allocatedBytes });

async function besideNeighbour({ given, step, meanwhile }: Attack): Promise<void> {
  await using neighbour = await serve();
  const before = open();
  {
    await using attacked = await serve(given?.() ?? {});
    for (let n = 0; n < READS; n++) {
      step(attacked, n);
      neighbour.device.bytes[0] = n;
      expect((await neighbour.client.request(READ, access(0n, 0, 1))).payload).toEqual(access(0n, 0, 1, Uint8Array.of(n)));
    }
    meanwhile?.(attacked);
  }
  expect(open()).toEqual(before);
  expect(neighbour.server.session?.counters.errors).toBe(0);
}

/** Sends what the socket takes, all of it or nothing. */
function push({ client }: Served<FakeDevice>, bytes: Uint8Array, fds: readonly number[] = []): boolean {
  try {
    return linux.sendmsg(client.fd, bytes, fds) !== undefined;
  } catch (error) {
    // The server may have had enough.
    if (error instanceof LinuxError) return false;
    throw error;
  }
}

const barFile = memfd(0x1000, 'bar');
afterAll(() => { linux.close(barFile); });
function mappable(): FakeDevice {
  const device = new FakeDevice();
  device.regions.push({ index: 1, sizeBytes: 0x1000, readable: true, writable: true, mmap: { areas: [{ offset: 0, sizeBytes: 0x1000 }], backing: { fd: barFile, offset: 0 } } });
  return device;
}

describe('a neighbour keeps its pace while a client', () => {
  const [half, whole] = [message(1, WRITE, access(0n, 2, 1 << 19, new Uint8Array(1 << 19))), message(1, READ, access(0n, 2, 1 << 16))];

  it.each<[string, Attack]>([
    ['stops in the middle of a header', { step: (s, n) => { if (n === 0) push(s, half.subarray(0, 9)); } }],
    ['stops in the middle of 512 KiB', { step: (s, n) => { if (n === 0) push(s, half.subarray(0, 100_000)); } }],
    ['sends a message byte by byte', { step: (s, n) => { push(s, half.subarray(n, n + 1)); } }],
    ['connects and says nothing', { given: () => ({ version: null }), step: () => undefined, meanwhile: (s) => { expect(s.server.session?.state).toBe('negotiating'); } }],
    ['floods and reads no answer', {
      step: (s, n) => {
        if (n === 0) s.client.reading = false;
        for (let i = 0; i < 50 && push(s, whole); i++);
      },
      // 64 KiB for each command: far less than was asked for has been worked off.
      meanwhile: (s) => { expect(s.server.session!.counters.commands).toBeLessThan(100); },
    }],
    ['floods with commands that want no answer', {
      step: (s) => { for (let i = 0; i < 50 && push(s, message(1, WRITE, access(0n, 0, 4, fields(i)), NO_REPLY)); i++); },
      meanwhile: (s) => { expect(s.server.session!.counters.commands).toBeGreaterThan(READS); },
    }],
    ['floods with errors', {
      step: (s) => { for (let i = 0; i < 50 && push(s, message(1, 999, fields(0), NO_REPLY)); i++); },
      meanwhile: (s) => { expect(s.server.session!.counters.errors).toBeGreaterThan(READS); },
    }],
    ['asks for descriptors and takes none', {
      given: () => ({ device: mappable(), server: { limits: { maxPendingOutputFds: 4 } } }),
      step: (s, n) => {
        if (n === 0) s.client.reading = false;
        for (let i = 0; i < 50 && push(s, message(1, REGION_INFO, regionInfo(1, 4096))); i++);
      },
    }],
    ['holds a device in a command that does not end', {
      given: () => ({ device: Object.assign(new FakeDevice(), { write: () => new Promise<void>(() => undefined) }), server: { limits: { departureTimeoutMs: 1 } } }),
      step: (s) => { push(s, message(1, WRITE, access(0n, 0, 4, fields(1)))); },
    }],
  ])('%s', async (_name, attack) => { await besideNeighbour(attack); });

  it('sends 253 descriptors with every message, whole or cut off, and with none that means anything', async () => {
    const eventfd = linux.eventfd();
    const fds = Array<number>(253).fill(eventfd);
    await besideNeighbour({
      step: (s, n) => {
        if (n < 100) push(s, message(1, GET_INFO, info, NO_REPLY), fds);
        else if (n === 100) push(s, message(1, GET_INFO, info).subarray(0, 20), fds);
      },
    });
    linux.close(eventfd);
  });

  it('maps and unmaps as fast as it can', async () => {
    const file = memfd(0x10000);
    await besideNeighbour({
      step: (s) => {
        for (let i = 0n; i < 16n; i++) push(s, message(1, DMA_MAP, dmaMap(i * PAGE, PAGE, i * PAGE), NO_REPLY), [file]);
        push(s, message(1, 3, fields(24, 2, 0n, 0n), NO_REPLY));
      },
    });
    linux.close(file);
  });
});

describe('a client that half-closes its socket', () => {
  it('has left: what it sent before is not answered, and everything of it is released', async () => {
    await using _warm = await serve();
    const before = open();
    {
      const device = new FakeDevice();
      let go: (() => void) | undefined;
      device.write = () => new Promise((resolve) => { go = resolve; });
      await using s = await serve({ device });
      const file = memfd(0x1000);
      expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE), [file])).toBe(0);
      linux.close(file);
      const gone = nextEvent('disconnect');
      s.client.send(concat(message(1, WRITE, access(0n, 0, 4, fields(1))), message(2, GET_INFO, info)));
      while (go === undefined) await turn();
      linux.shutdownWrite(s.client.fd);
      while (s.server.session?.state !== 'ending') await turn();
      go();
      expect(await gone).toMatchObject({ reason: 'closed' });
      await s.client.closed;
      expect([s.client.received, device.take().slice(-3)]).toEqual([0, ['quiesce detach', 'detach closed', 'resume']]);
    }
    expect(open()).toEqual(before);
  });

  it('in the middle of a message: connection-lost', async () => {
    await using s = await serve();
    const gone = nextEvent('disconnect');
    s.client.send(message(1, GET_INFO, info).subarray(0, 20));
    linux.shutdownWrite(s.client.fd);
    expect(await gone).toMatchObject({ reason: 'connection-lost' });
  });
});

describe('a client that truncates its memory after it is mapped', () => {
  it('cannot: the file is sealed against it, for as long as it lives', async () => {
    await using s = await serve();
    const file = memfd(0x1000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE), [file])).toBe(0);
    expect(() => { linux.ftruncate(file, 0); }).toThrow(expect.objectContaining({ errno: EPERM }) as Error);
    await s.device.host!.memory.write(0n, fields(1));
    linux.close(file);
  });

  it('that cannot be sealed: refused where the server is told to; by FILE_IO the access fails, and only the access', async () => {
    await using s = await serve({ server: { truncation: 'refuse' } });
    const file = linux.memfdCreate('unsealable', { allowSealing: false });
    linux.ftruncate(file, 0x1000);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE), [file])).toBe(EPERM);
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE, 0n, 3 | 8), [file])).toBe(0);
    linux.ftruncate(file, 0);
    await expect(s.device.host!.memory.read(0n, new Uint8Array(4))).rejects.toMatchObject({ errno: EFAULT });
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
    linux.close(file);
  });
});
