/** Three cards of one device process on a switch, each driven over its own socket; what is plugged in while it runs, and what is taken out. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachWindow, Window } from '@emudev/dma';
import { allocateBurst, type CreateDatapath, type OwnedBurst, type PortDatapath } from '@emudev/ethdev';
import { ControlClient } from '@emudev/iavf-device';
import { deviceAt, IavfPort } from '@emudev/iavf-pmd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asked } from './support/control.ts';
import { DeviceProcess } from './support/device-process.ts';

const PATIENCE_MS = 20_000;
const folder = mkdtempSync(join(tmpdir(), 'emudev-switch-'));
const at = (name: string): string => join(folder, name);
const window = Window.open();
const undo = new AsyncDisposableStack();
let burst: OwnedBurst;
let device: DeviceProcess;
let control: ControlClient;
let cards: Card[];

class Card {
  readonly port: IavfPort;
  readonly #datapath: PortDatapath;
  readonly seen: number[] = [];

  private constructor(port: IavfPort, datapath: PortDatapath) {
    this.port = port;
    this.#datapath = datapath;
  }

  static async open(name: string): Promise<Card> {
    const port = await IavfPort.open(`net_${name}`, deviceAt(`vfio-user:${at(name)}`));
    undo.defer(() => port.close());
    await port.configure({ rxQueues: 1, txQueues: 1, peerTxCapabilities: 0 });
    await port.start();
    while (!port.link().up) await new Promise<unknown>((resolve) => port.onLink(resolve));
    // A card sees what is not for it, too: floods are what this is about.
    await port.setPromiscuous(true);
    const { module, init } = port.datapath();
    const { createDatapath } = (await import(module)) as { createDatapath: CreateDatapath };
    return new Card(port, await createDatapath({ ...attachWindow(window.memory, window.base), lcore: 0, sendsTo: [] }, init as never));
  }

  get mac(): Uint8Array {
    return this.port.info.mac!;
  }

  /** From this card's address, or from another one behind it. */
  send(to: Uint8Array, number: number, from = this.mac): void {
    window.u8.fill(0, burst.arena, burst.arena + 60);
    window.u8.set(to, burst.arena);
    window.u8.set(from, burst.arena + 6);
    window.u8.set([0x88, 0xb5], burst.arena + 12);
    window.view.setUint32(burst.arena + 14, number);
    window.u32.fill(0, burst.records >>> 2, (burst.records >>> 2) + 8);
    window.u32[burst.records >>> 2] = burst.arena;
    window.u32[(burst.records >>> 2) + 1] = 60;
    expect(this.#datapath.txBurst(0, burst, 1)).toBe(1);
  }

  poll(): void {
    for (let n = this.#datapath.rxBurst(0, burst, 64); n > 0; n = this.#datapath.rxBurst(0, burst, 64)) {
      for (let i = 0; i < n; i++) this.seen.push(window.view.getUint32(window.u32[(burst.records + i * 32) >>> 2]! + 14));
    }
  }
}

/** By card, what has come; frames come through memory, so there is no event to wait for. */
async function arrive(expected: readonly (readonly number[])[]): Promise<void> {
  const wanted = expected.flat().length;
  const deadline = performance.now() + PATIENCE_MS;
  while (cards.reduce((sum, { seen }) => sum + seen.length, 0) < wanted && performance.now() < deadline) {
    for (const card of cards) card.poll();
    await sleep(1);
  }
  expect(cards.map(({ seen }) => seen.splice(0))).toEqual(expected);
}

interface SwitchState {
  readonly ports: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly addresses: Readonly<Record<string, string>>;
}
const state = async (): Promise<SwitchState> => ((await asked(control, 'switches', { addresses: true })) as { switches: SwitchState[] }).switches[0]!;
const text = (mac: Uint8Array): string => [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');

const BROADCAST = new Uint8Array(6).fill(0xff);
const STATION = Uint8Array.of(2, 0, 0, 0, 0, 77);

beforeAll(async () => {
  burst = allocateBurst(window, 64);
  device = undo.use(await DeviceProcess.start(['c0', 'c1', 'c2'].flatMap((name) => ['--socket', at(name)]).concat('--far', 'switch', '--queues', '1', '--control', at('ctl'), '--log-level', 'warn')));
  await device.says(/control socket: listens on/);
  control = undo.use(await ControlClient.connect(at('ctl')));
  cards = [await Card.open('c0'), await Card.open('c1'), await Card.open('c2')];
});

afterAll(async () => {
  await undo.disposeAsync();
  burst[Symbol.dispose]();
  window[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('unknown addresses are flooded, known ones are not, and a station that moves is found again', async () => {
  const [a, b, c] = cards as [Card, Card, Card];
  a.send(b.mac, 1);
  await arrive([[], [1], [1]]);
  b.send(a.mac, 2);
  await arrive([[2], [], []]);
  a.send(b.mac, 3);
  await arrive([[], [3], []]);
  a.send(BROADCAST, 4);
  await arrive([[], [4], [4]]);
  // A station behind c moves behind b.
  c.send(BROADCAST, 5, STATION);
  await arrive([[5], [5], []]);
  a.send(STATION, 6);
  await arrive([[], [], [6]]);
  b.send(BROADCAST, 7, STATION);
  await arrive([[7], [], [7]]);
  a.send(STATION, 8);
  await arrive([[], [8], []]);
  const { ports, addresses } = await state();
  expect(Object.fromEntries(Object.entries(addresses).map(([mac, where]) => [mac, where.split(',')[0]]))).toEqual({
    [text(a.mac)]: 'net_iavf_be0', [text(b.mac)]: 'net_iavf_be1', [text(STATION)]: 'net_iavf_be1',
  });
  expect(ports['net_iavf_be0']).toMatchObject({ taken: 5, forwarded: 3, flooded: 2, learned: 1, addresses: 1, delivered: 3, dropped: 0 });
  expect(ports['net_iavf_be1']).toMatchObject({ taken: 2, forwarded: 1, flooded: 1, learned: 1, moved: 1, addresses: 2 });
  expect(ports['net_iavf_be2']).toMatchObject({ taken: 1, flooded: 1, learned: 1, moved: 0, addresses: 0 });
});

test('a card that makes up addresses learns no more than it may, and its neighbours stay known', async () => {
  const [a, b, c] = cards as [Card, Card, Card];
  b.send(BROADCAST, 1);
  await arrive([[1], [], [1]]);
  const made = 3000;
  for (let n = 0; n < made; n++) {
    // For b alone: 3000 floods would be too many for rings that nobody polls meanwhile.
    c.send(b.mac, n, Uint8Array.of(6, 0, 0, 1, n >> 8, n & 255));
    if (n % 64 !== 63 && n !== made - 1) continue;
    const expected = Array.from({ length: (n % 64) + 1 }, (_, i) => n - (n % 64) + i);
    await arrive([[], expected, []]);
  }
  const { ports } = await state();
  expect(ports['net_iavf_be2']).toMatchObject({ addresses: 1024 });
  expect(ports['net_iavf_be2']!['unlearned']).toBe(made - 1024);
  a.send(b.mac, 1);
  await arrive([[], [1], []]);
});

test('a driver that goes away is forgotten; the switch can be taken apart and put together while others run', async () => {
  const [a, b, c] = cards as [Card, Card, Card];
  await b.port.stop();
  const deadline = performance.now() + PATIENCE_MS;
  while (Object.values((await state()).addresses).some((where) => where.startsWith('net_iavf_be1')) && performance.now() < deadline) await sleep(5);
  a.send(b.mac, 1);
  await arrive([[], [], [1]]);
  await expect(asked(control, 'connect', { pair: 'net_iavf_be0=net_iavf_be2' })).rejects.toThrow(/connected already/);
  await expect(asked(control, 'unplug', { device: ['net_iavf_be1'] })).rejects.toThrow(/the connection net_iavf_be0\+net_iavf_be1\+net_iavf_be2/);
  await asked(control, 'disconnect', { pair: 'net_iavf_be2+net_iavf_be0+net_iavf_be1' });
  expect(await asked(control, 'switches')).toEqual({ switches: [] });
  await asked(control, 'connect', { pair: 'net_iavf_be0+net_iavf_be2' });
  for (const card of [a, c]) while (!card.port.link().up) await new Promise<unknown>((resolve) => card.port.onLink(resolve));
  c.send(a.mac, 2);
  await arrive([[2], [], []]);
});
