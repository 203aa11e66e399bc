import { describe, expect, it } from 'vitest';
import type { FakeDevice} from '../fixture.ts';
import { nextEvent, serve } from '../fixture.ts';
import { ERROR, fields, header, message, NO_REPLY, REPLY, u32 } from '../raw-client.ts';
import {
  access, BOOL, DMA_MAP, DMA_READ, DMA_UNMAP, DMA_WRITE, dmaMap, EINVAL, FEATURE, GET_INFO, info, IO_FDS, IRQ_INFO, MIG_READ, MIG_WRITE, MULTI, PAGE, READ, REGION_INFO, RESET, SET_IRQS, setIrqs,
  setState, STOP, TRIGGER, WRITE,
} from '../requests.ts';
import { MigratableDevice } from './devices.ts';
import { conformance, type Row } from './suite.ts';

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

const impossible = (size: number): Row => ({
  title: `msg_size ${size}: EINVAL (better: and closed, for the bytes behind it mean nothing)`,
  run: async ({ client }) => {
    client.send(header(0x55, READ, size));
    expect(await client.next()).toMatchObject({ id: 0x55, command: READ, size: 16, flags: REPLY | ERROR, errno: EINVAL });
  },
  after: 'closed',
});

/** Waits where it is told to, until it is told to go on. */
class WaitingDevice extends MigratableDevice {
  #at: string | undefined;
  #go: (() => void) | undefined;
  #reached: (() => void) | undefined;
  waitAt(what: string): Promise<void> {
    this.#at = what;
    return new Promise((resolve) => { this.#reached = resolve; });
  }
  goOn(): void {
    this.#go?.();
  }
  async #stop(what: string): Promise<void> {
    if (this.#at !== what) return;
    this.#reached?.();
    await new Promise<void>((resolve) => { this.#go = resolve; });
  }
  override async write(region: number, offset: number, from: Uint8Array): Promise<void> {
    super.write(region, offset, from);
    await this.#stop('write');
  }
  override async quiesce(reason: Parameters<FakeDevice['quiesce']>[0]): Promise<void> {
    await super.quiesce(reason);
    await this.#stop(`quiesce ${reason}`);
  }
}

async function diesDuring(what: string, command: number, payload: Uint8Array, client: { send(bytes: Uint8Array): void; close(): void }, device: WaitingDevice, state: () => unknown): Promise<string[]> {
  const reached = device.waitAt(what);
  device.take();
  client.send(message(1, command, payload));
  await reached;
  const gone = nextEvent('disconnect');
  client.close();
  while (state() !== 'ending') await turn();
  device.goOn();
  expect(await gone).toMatchObject({ reason: 'closed' });
  return device.take();
}

conformance('framing', {
  H1: impossible(15),
  H2: impossible(1048576 + 33),
  H3: {
    title: 'a reply from the client: not answered, counted (better: a late DMA reply looks the same)',
    run: async ({ client, server }) => {
      client.send(message(9, READ, new Uint8Array(16), REPLY));
      expect(await client.errno(GET_INFO, info)).toBe(0);
      expect(server.session?.counters.strayReplies).toBe(1);
    },
  },
  H4: { title: 'commands that do not exist, or go the other way: EINVAL', exchanges: [19, 0, DMA_READ, DMA_WRITE, 14, 0xffff].map((command) => ({ send: [command, new Uint8Array(32)] as const, reply: EINVAL })) },
  H5: {
    title: 'no payload where one is needed: EINVAL; RESET exempt, with one or without',
    exchanges: [
      ...[DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, IO_FDS, IRQ_INFO, SET_IRQS, READ, WRITE, MULTI, FEATURE, MIG_READ, MIG_WRITE].map((command) => ({ send: [command, new Uint8Array(0)] as const, reply: EINVAL })),
      { send: [RESET, new Uint8Array(0)], reply: new Uint8Array(0) }, { send: [RESET, new Uint8Array(8)], reply: new Uint8Array(0) },
    ],
    run: ({ device }) => { expect(device.take()).toEqual(['attach', 'quiesce reset', 'reset', 'resume', 'quiesce reset', 'reset', 'resume']); },
  },
  H6: { title: 'SET_IRQS with DATA_BOOL and two stray descriptors: EINVAL, both closed', exchanges: [{ send: [SET_IRQS, setIrqs(TRIGGER | BOOL, 2, 0, 2, Uint8Array.of(1, 1))], fds: 2, reply: EINVAL }] },
  H7: {
    title: 'the client leaves while idle: quiesced, detached',
    run: async ({ client, device }) => {
      device.take();
      const gone = nextEvent('disconnect');
      client.close();
      expect(await gone).toMatchObject({ reason: 'closed' });
      expect(device.take()).toEqual(['quiesce detach', 'detach closed', 'resume']);
    },
    after: 'ended',
  },
  H8: {
    title: 'the same, and quiesce fails: asked again until it does not, detached once',
    run: async ({ client, device }) => {
      device.take();
      let refusals = 2;
      const quiesce = device.quiesce.bind(device);
      device.quiesce = (reason) => (refusals-- > 0 ? Promise.reject(new Error('busy')) : quiesce(reason));
      const gone = nextEvent('disconnect');
      client.close();
      await gone;
      expect([refusals, device.take()]).toEqual([-1, ['quiesce detach', 'detach closed', 'resume']]);
    },
    after: 'ended',
  },
  H9: {
    title: 'the client leaves during a command, so that its reply cannot be sent: detached once, after it',
    given: () => ({ device: new WaitingDevice() }),
    run: async ({ client, device, server }) => {
      const log = await diesDuring('write', WRITE, access(0n, 0, 4, fields(1)), client, device as WaitingDevice, () => server.session?.state);
      expect(log).toEqual(['write 0 0 1,0,0,0', 'quiesce detach', 'detach closed', 'resume']);
    },
    after: 'ended',
  },
  H10: {
    title: 'the client leaves while the device becomes quiescent for a change of state: the change is made, its reply fails, detached once',
    given: () => ({ device: new WaitingDevice() }),
    run: async ({ client, device, server }) => {
      const log = await diesDuring('quiesce migration', FEATURE, setState(STOP), client, device as WaitingDevice, () => server.session?.state);
      expect(log).toEqual(['quiesce migration', 'enter stop from running', 'resume', 'quiesce detach', 'detach closed', 'enter running from stop', 'resume']);
    },
    after: 'ended',
  },
  H11: {
    title: 'No_reply: never an answer, not even to an error',
    run: async ({ client, server }) => {
      client.send(message(1, WRITE, access(0n, 0, 4, fields(0x11223344)), NO_REPLY));
      client.send(message(2, WRITE, access(0n, 99, 4, fields(0)), NO_REPLY));
      client.send(message(3, 999, fields(0), NO_REPLY));
      client.send(message(4, DMA_MAP, dmaMap(0n, PAGE, 0n, 0x13), NO_REPLY));
      expect(u32((await client.request(READ, access(0n, 0, 4))).payload, 16)).toBe(0x11223344);
      expect(server.session?.counters.errors).toBe(3);
    },
  },
});

describe('beyond the list', () => {
  it('reserved message types: EINVAL', async () => {
    await using s = await serve();
    for (const type of [2, 15]) {
      s.client.send(message(9, GET_INFO, info, type));
      expect((await s.client.next()).errno).toBe(EINVAL);
    }
  });
});
