/** What a client can make the server hold, and what it gets where a bound is reached; floods beside a neighbour: attack.test.ts. */
import { closeSync, openSync } from 'node:fs';
import { countOpenFds, linux } from '@emudev/linux';
import { describe, expect, it } from 'vitest';
import type { Frame } from '@emudev/vfio-user-protocol';
import { DmaMessages } from '../src/dma-messages.ts';
import { FakeDevice, memfd, nextEvent, serve } from './fixture.ts';
import { concat, fields, message, NO_REPLY, QEMU_VERSION } from './raw-client.ts';
import { access, DMA_MAP, DMA_READ, dmaMap, EBUSY, EIO, ENOSPC, GET_INFO, info, MULTI, PAGE, WRITE } from './requests.ts';

const FILE_IO = 8;
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** A device whose writes end when they are told to. */
class Slow extends FakeDevice {
  go: (() => void) | undefined;
  override write(): Promise<void> {
    return new Promise((resolve) => { this.go = resolve; });
  }
}

describe('while a command runs', () => {
  it('descriptors behind it stay in the socket beyond maxPendingFds', async () => {
    await using s = await serve({ device: new Slow(), server: { limits: { maxPendingFds: 4 } } });
    s.client.send(message(1, WRITE, access(0n, 0, 4, fields(1))));
    while (s.device.go === undefined) await turn();
    const event = linux.eventfd();
    const before = countOpenFds();
    for (let i = 0; i < 50; i++) s.client.send(message(2, GET_INFO, info, NO_REPLY), [event, event]);
    for (let i = 0; i < 50; i++) await turn();
    expect(countOpenFds() - before).toBe(6);
    s.device.go();
    await s.client.next();
    expect(await s.client.errno(GET_INFO, info)).toBe(0);
    expect(countOpenFds()).toBe(before);
    linux.close(event);
  });

  it('half a message behind it is given its time when the socket is read again', async () => {
    await using s = await serve({ device: new Slow(), server: { limits: { maxPendingMessages: 2, messageTimeoutMs: 50 } } });
    const gone = nextEvent('disconnect');
    const one = message(2, GET_INFO, info, NO_REPLY);
    s.client.send(concat(message(1, WRITE, access(0n, 0, 4, fields(1))), one, one, one, one.subarray(0, 20)));
    while (s.device.go === undefined) await turn();
    s.device.go();
    expect(await gone).toMatchObject({ reason: 'connection-lost', error: { code: 'ERR_SERVER_TIMEOUT' } });
  });

  it('a client that leaves in attach is detached, and nobody was told that it is ready', async () => {
    const device = new FakeDevice();
    let go: (() => void) | undefined;
    device.attach = () => new Promise((resolve) => { go = resolve; });
    const s = await serve({ device, version: null });
    const seen: string[] = [];
    using _observer = s.server.onSession({ attached: () => seen.push('attached'), detached: (_session, reason) => seen.push(`detached ${reason}`) });
    const gone = nextEvent('disconnect');
    s.client.send(message(1, 1, QEMU_VERSION));
    while (go === undefined) await turn();
    s.client.close();
    while (s.server.session?.state !== 'ending') await turn();
    go();
    await gone;
    expect([seen, device.take()]).toEqual([['detached closed'], ['quiesce detach', 'detach closed', 'resume']]);
    await s.server.close();
  });
});

it('a client that takes its replies late is read again, and gets all of them', async () => {
  await using s = await serve({ server: { limits: { maxPendingMessages: 2, maxPendingOutputBytes: 64 } } });
  s.client.reading = false;
  const commands = 2000;
  let sent = 0;
  const sending = (async () => {
    for (; sent < commands; sent++) await s.client.sendPatiently(message(sent, GET_INFO, info));
  })();
  // Until the server takes nothing any more: replies fill the one direction, commands the other.
  for (let before = -1; before !== sent;) {
    before = sent;
    for (let i = 0; i < 20; i++) await turn();
  }
  expect(sent).toBeLessThan(commands);
  s.client.reading = true;
  for (let id = 0; id < commands; id++) expect((await s.client.next()).id).toBe(id);
  await sending;
});

describe('the DMA table', () => {
  it('that is full takes what it has once more', async () => {
    await using s = await serve({ server: { limits: { maxDmaMaps: 2 } } });
    const answers: number[] = [];
    for (const page of [0n, 1n, 2n, 1n]) answers.push(await s.client.errno(DMA_MAP, dmaMap(page * PAGE, PAGE)));
    expect(answers).toEqual([0, 0, ENOSPC, 0]);
  });

  it('does not write to a FILE_IO region through a descriptor that came for reading', async () => {
    await using s = await serve();
    const file = memfd(0x1000);
    const reader = openSync(`/proc/self/fd/${file}`, 'r');
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE, 0n, 1 | FILE_IO), [reader])).toBe(0);
    expect(await s.client.errno(DMA_MAP, dmaMap(PAGE, PAGE, 0n, 3 | FILE_IO), [file])).toBe(0);
    await s.device.host!.memory.write(PAGE, fields(0xfeed));
    const into = new Uint8Array(4);
    await s.device.host!.memory.read(0n, into);
    expect(into).toEqual(fields(0xfeed));
    closeSync(reader);
    linux.close(file);
  });

  it('of a client that has left stays until the device is quiescent, however often it has to be asked', async () => {
    const device = new FakeDevice();
    let refusals = 4;
    device.quiesce = (reason) => {
      device.log.push(`quiesce ${reason}`);
      return reason === 'detach' && refusals-- > 0 ? Promise.reject(new Error('not yet')) : Promise.resolve();
    };
    const s = await serve({ device });
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, PAGE))).toBe(0);
    device.take();
    let mapped: number | undefined;
    device.detach = () => { mapped = s.server.session?.dmaMaps; };
    const gone = nextEvent('disconnect');
    s.client.close();
    await gone;
    expect([mapped, device.take()]).toEqual([1, [...Array<string>(5).fill('quiesce detach'), 'resume']]);
    await s.server.close();
  });
});

describe('DMA messages', () => {
  /** What is sent, and how to answer it. */
  function messages(): { dma: DmaMessages; ids: number[]; answer: (id: number, iova: bigint) => boolean } {
    const ids: number[] = [];
    const dma = new DmaMessages((sent) => { ids.push(sent[0]! | (sent[1]! << 8)); }, 60_000);
    const answer = (id: number, iova: bigint): boolean => {
      const payload = concat(fields(iova, 4n), new Uint8Array(4));
      const frame: Frame = { id, command: DMA_READ, size: 16 + payload.length, flags: 1, error: 0, payload, fds: [] };
      return dma.onReply(frame);
    };
    return { dma, ids, answer };
  }

  it('1024 at a time; the next one is EBUSY, and all end with the connection', async () => {
    const { dma } = messages();
    const waiting = Array.from({ length: 1024 }, () => dma.read(0n, new Uint8Array(4)));
    await expect(dma.read(0n, new Uint8Array(4))).rejects.toMatchObject({ errno: EBUSY });
    dma.close();
    for (const result of await Promise.allSettled(waiting)) expect(result).toMatchObject({ status: 'rejected', reason: { errno: EIO } });
  });

  it('no id twice, although the others have been used since', async () => {
    const { dma, ids, answer } = messages();
    const first = dma.read(0x1000n, new Uint8Array(4));
    for (let i = 0; i < 0x10000; i++) {
      const next = dma.read(0x2000n, new Uint8Array(4));
      expect(ids.at(-1)).not.toBe(ids[0]);
      answer(ids.at(-1)!, 0x2000n);
      await next;
    }
    expect(answer(ids[0]!, 0x1000n)).toBe(true);
    await first;
  });

  it('that a client does not take end the session before they fill the memory', async () => {
    await using s = await serve({ version: QEMU_VERSION });
    expect(await s.client.errno(DMA_MAP, dmaMap(0n, 1n << 28n))).toBe(0);
    s.client.reading = false;
    const gone = nextEvent('disconnect');
    const bytes = new Uint8Array(1 << 20);
    const results = await Promise.allSettled(Array.from({ length: 80 }, async () => s.device.host!.memory.write(0n, bytes)));
    expect(await gone).toMatchObject({ reason: 'protocol-error' });
    for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_SERVER_DMA_MESSAGE' } });
  });
});

it('a write of no bytes among several does not reach the device', async () => {
  await using s = await serve();
  s.device.take();
  const reply = await s.client.request(MULTI, fields(3n, 0n, 0, 1, 7n, 8n, 0, 0, 7n, 4n, 0, 1, 9n));
  expect([reply.errno, reply.payload, s.device.take()]).toEqual([0, fields(3n), ['write 0 0 7', 'write 0 4 9']]);
});
