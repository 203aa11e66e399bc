import type { MigrationState } from '@emudev/pci';
import { expect } from 'vitest';
import type { FakeDevice } from '../fixture.ts';
import { ERROR, fields, u32, version, type Message, type RawClient } from '../raw-client.ts';
import {
  access, caps, DMA_MAP, DMA_UNMAP, dmaMap, dmaUnmap, EINVAL, EIO, feature, FEATURE, GET, info, GET_INFO, IO_FDS, ioFds, IRQ_INFO, LOG_REPORT, LOG_START, MIG_READ, MIG_STATE, MIG_WRITE,
  migRead, MIGRATION, migWrite, MULTI, NONE, PAGE, PRE_COPY, PROBE, READ, REGION_INFO, regionInfo, RESET, RESUMING, RUNNING, SET, SET_IRQS, setIrqs, setState, STOP, STOP_COPY, TRIGGER,
  VERSION, WRITE,
} from '../requests.ts';
import { MigratableDevice } from './devices.ts';
import { conformance, type Exchange, type Rig, type Row } from './suite.ts';

const NAMES: Readonly<Record<number, MigrationState>> = { [STOP]: 'stop', [RUNNING]: 'running', [STOP_COPY]: 'stop-copy', [RESUMING]: 'resuming', [PRE_COPY]: 'pre-copy' };
const STATES = [STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY] as const;

/** The next hop of every allowed change: rows are where the device is, columns where it is to go (in the order of STATES). */
const NEXT: Readonly<Record<number, readonly (number | undefined)[]>> = {
  [STOP]: [undefined, RUNNING, STOP_COPY, RESUMING, RUNNING],
  [RUNNING]: [STOP, undefined, STOP, STOP, PRE_COPY],
  [STOP_COPY]: [STOP, STOP, undefined, STOP, undefined],
  [RESUMING]: [STOP, STOP, STOP, undefined, STOP],
  [PRE_COPY]: [RUNNING, RUNNING, STOP_COPY, RUNNING, undefined],
};
function hops(from: number, to: number): string[] {
  const path: string[] = [];
  for (let at = from; at !== to;) {
    const next = NEXT[at]![STATES.indexOf(to as (typeof STATES)[number])]!;
    path.push(`enter ${NAMES[next]!} from ${NAMES[at]!}`);
    at = next;
  }
  return path;
}

const migratable = (): { device: MigratableDevice; version: Uint8Array } => ({ device: new MigratableDevice(), version: version('{"capabilities":{"max_data_xfer_size":4}}', 0, 2) });
const go = (...states: readonly number[]): Exchange[] => states.map((state) => ({ send: [FEATURE, setState(state)], reply: setState(state) }));
const refused = (title: string, ...exchanges: readonly (readonly [number, Uint8Array])[]): Row => ({ title: `${title}: EINVAL`, given: migratable, exchanges: exchanges.map((send) => ({ send, reply: EINVAL })) });
const enters = (device: FakeDevice): string[] => device.take().filter((line) => line.startsWith('enter'));
const state = async (client: RawClient): Promise<number> => u32((await client.request(FEATURE, feature(GET | MIG_STATE, new Uint8Array(0), 16))).payload, 8);
/** What a read of migration data says it got. libvfio-user's clients need the reply to be as long as what they asked for. */
function chunk(reply: Message, asked: number): number[] {
  expect([reply.flags & ERROR, reply.payload.length, u32(reply.payload, 0)]).toEqual([0, 8 + asked, 8 + u32(reply.payload, 4)]);
  expect(reply.payload.subarray(8 + u32(reply.payload, 4)).every((byte) => byte === 0)).toBe(true);
  return [...reply.payload.subarray(8, 8 + u32(reply.payload, 4))];
}
const failNext = ({ device }: Rig, errno: number): void => { (device as MigratableDevice).failure = Object.assign(new Error('as told'), { errno }); };
const ERANGE = 34;
/** Where the suite may ask for anything again. */
const run = async (client: RawClient): Promise<void> => { expect(await client.errno(FEATURE, setState(RUNNING))).toBe(0); };

conformance('migration', {
  G10: {
    title: 'a device without migration: every feature of it is EINVAL (better: the contract has one version, so none can be wrong)',
    exchanges: [feature(GET | MIGRATION, new Uint8Array(0), 16), feature(GET | MIG_STATE, new Uint8Array(0), 16), setState(STOP), feature(PROBE | GET | MIGRATION)].map((payload) => ({ send: [FEATURE, payload] as const, reply: EINVAL })),
  },
  G11: {
    title: 'every pair of states: the shortest way, saving states only at its ends, one call for a hop',
    given: migratable,
    run: async ({ client, device }) => {
      for (const from of STATES) {
        for (const to of STATES) {
          if (from === STOP_COPY && to === PRE_COPY) continue;
          for (const step of [RUNNING, from]) expect(await client.errno(FEATURE, setState(step))).toBe(0);
          device.take();
          const reply = await client.request(FEATURE, setState(to));
          expect({ from, to, payload: reply.payload, enters: enters(device), state: await state(client) }).toEqual({ from, to, payload: setState(to), enters: hops(from, to), state: to });
        }
      }
    },
  },
  G12: refused('into ERROR, RUNNING_P2P, PRE_COPY_P2P of a device without P2P, from every state', ...[0, 5, 7].map((to) => [FEATURE, setState(to)] as const)),
  G13: { title: 'STOP_COPY to PRE_COPY: EINVAL, still in STOP_COPY', given: migratable, exchanges: [...go(STOP_COPY), { send: [FEATURE, setState(PRE_COPY)], reply: EINVAL }], run: async ({ client }) => {
    expect(await state(client)).toBe(STOP_COPY);
    await run(client);
  } },
  G14: refused('a state that does not exist', [FEATURE, setState(0xabcd)], [FEATURE, setState(8)], [FEATURE, setState(0xffffffff)]),
  G15: {
    title: 'the device fails a hop: its errno, in the last state reached (better: what is no errno is EIO)',
    given: migratable,
    run: async (rig) => {
      for (const [errno, seen] of [[ERANGE, ERANGE], [0xbeef, EIO]] as const) {
        failNext(rig, errno);
        expect(await rig.client.errno(FEATURE, setState(PRE_COPY))).toBe(seen);
        expect(await state(rig.client)).toBe(RUNNING);
      }
      const { migration } = rig.device as MigratableDevice;
      const enter = migration.enter.bind(migration);
      migration.enter = (to, from) => {
        if (to === 'stop-copy') throw Object.assign(new Error('as told'), { errno: ERANGE });
        return enter(to, from);
      };
      expect(await rig.client.errno(FEATURE, setState(STOP_COPY))).toBe(ERANGE);
      expect(await state(rig.client)).toBe(STOP);
      await run(rig.client);
    },
  },
  G16: { title: 'GET of the state: RUNNING at first', given: migratable, exchanges: [{ send: [FEATURE, feature(GET | MIG_STATE, new Uint8Array(0), 16)], reply: feature(GET | MIG_STATE, fields(RUNNING, 0xffffffff), 16) }] },
  G17: {
    title: 'MIG_DATA_READ succeeds in PRE_COPY and STOP_COPY only, in pieces, 0 bytes at its end, each reply as long as was asked',
    given: migratable,
    run: async ({ client }) => {
      for (const where of [STOP, RUNNING, RESUMING]) {
        expect(await client.errno(FEATURE, setState(where))).toBe(0);
        expect(await client.errno(MIG_READ, migRead(4))).toBe(EINVAL);
      }
      for (const where of [PRE_COPY, STOP_COPY]) {
        expect(await client.errno(FEATURE, setState(where))).toBe(0);
        const chunks: number[][] = [];
        for (let i = 0; i < 4; i++) chunks.push(chunk(await client.request(MIG_READ, migRead(4)), 4));
        expect(chunks).toEqual([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]);
      }
      await run(client);
    },
  },
  G18: {
    title: 'more than the client takes (its max_data_xfer_size is 4): EINVAL',
    given: migratable,
    exchanges: [...go(STOP_COPY), { send: [MIG_READ, migRead(5)], reply: EINVAL }, { send: [MIG_READ, fields(0xffffffff, 0xffffffff)], reply: EINVAL }, ...go(RESUMING), { send: [MIG_WRITE, migWrite(new Uint8Array(5))], reply: EINVAL }],
  },
  G19: {
    title: 'the device fails to read its state: its errno, and the next read goes on',
    given: migratable,
    exchanges: go(STOP_COPY),
    run: async (rig) => {
      failNext(rig, ERANGE);
      expect(await rig.client.errno(MIG_READ, migRead(4))).toBe(ERANGE);
      expect(chunk(await rig.client.request(MIG_READ, migRead(4)), 4)).toEqual([1, 2, 3, 4]);
      await run(rig.client);
    },
  },
  G20: { title: 'MIG_DATA_READ a byte short, or with an argsz too small: EINVAL', given: migratable, exchanges: [...go(STOP_COPY), { send: [MIG_READ, migRead(4).subarray(0, 7)], reply: EINVAL }, { send: [MIG_READ, fields(7, 4)], reply: EINVAL }, ...go(RUNNING)] },
  G21: {
    title: 'MIG_DATA_WRITE in RESUMING: the device gets the bytes, the reply is a header',
    given: migratable,
    exchanges: [...go(RESUMING), { send: [MIG_WRITE, migWrite(Uint8Array.of(7, 8, 9))], reply: new Uint8Array(0) }, { send: [MIG_WRITE, migWrite(Uint8Array.of(10))], reply: new Uint8Array(0) }],
    run: ({ device }) => { expect((device as MigratableDevice).loaded).toEqual([7, 8, 9, 10]); },
  },
  G22: {
    title: 'MIG_DATA_WRITE in RUNNING, longer than allowed, without its data: EINVAL; the device fails: its errno',
    given: migratable,
    exchanges: [{ send: [MIG_WRITE, migWrite(Uint8Array.of(1))], reply: EINVAL }, ...go(RESUMING), { send: [MIG_WRITE, migWrite(new Uint8Array(5))], reply: EINVAL }, { send: [MIG_WRITE, fields(12, 4)], reply: EINVAL }, { send: [MIG_WRITE, fields(12, 4, Uint8Array.of(1, 2, 3))], reply: EINVAL }],
    run: async (rig) => {
      failNext(rig, ERANGE);
      expect(await rig.client.errno(MIG_WRITE, migWrite(Uint8Array.of(1)))).toBe(ERANGE);
      expect((rig.device as MigratableDevice).loaded).toEqual([]);
    },
  },
  G23: { title: 'GET MIGRATION: STOP_COPY and PRE_COPY', given: migratable, exchanges: [{ send: [FEATURE, feature(GET | MIGRATION, new Uint8Array(0), 16)], reply: feature(GET | MIGRATION, fields(5n), 16) }] },
  G24: refused('DEVICE_FEATURE a byte short', [FEATURE, feature(GET | MIGRATION, new Uint8Array(0), 16).subarray(0, 7)]),
  G25: refused('SET MIGRATION', [FEATURE, feature(SET | MIGRATION, fields(5n))]),
  G26: refused('an argsz that is too small: of PROBE, of GET MIGRATION, of SET STATE, of REPORT by one', [FEATURE, feature(PROBE | MIGRATION, new Uint8Array(0), 2)], [FEATURE, feature(GET | MIGRATION, new Uint8Array(0), 8)],
    [FEATURE, feature(SET | MIG_STATE, fields(STOP, 0xffffffff), 8)], [FEATURE, feature(GET | LOG_REPORT, fields(0n, PAGE, PAGE), 39)]),
  G27: { title: 'PROBE of what there is: echoed', given: migratable, exchanges: [feature(PROBE | MIGRATION), feature(PROBE | GET | MIGRATION), feature(PROBE | GET | SET | MIG_STATE), feature(PROBE | SET | LOG_START)].map((payload) => ({ send: [FEATURE, payload] as const, reply: payload })) },
  G28: refused('PROBE of what there is not', [FEATURE, feature(PROBE | SET | GET | MIGRATION)], [FEATURE, feature(PROBE | GET | LOG_START)], [FEATURE, feature(PROBE | GET | 3)]),
  G29: {
    title: 'in STOP only region accesses and features, in STOP_COPY only features and MIG_DATA_READ: everything else is EINVAL and does not reach the device',
    given: migratable,
    run: async ({ client, device }) => {
      const requests: Readonly<Record<number, Uint8Array>> = {
        [VERSION]: caps('{}'), [DMA_MAP]: dmaMap(0n, PAGE), [DMA_UNMAP]: dmaUnmap(0n, 0n, 2), [GET_INFO]: info, [REGION_INFO]: regionInfo(0, 32), [IO_FDS]: ioFds(0), [IRQ_INFO]: fields(16, 0, 2, 0),
        [SET_IRQS]: setIrqs(TRIGGER | NONE, 2, 0, 0), [READ]: access(0n, 0, 4), [WRITE]: access(0n, 0, 4, fields(1)), [RESET]: new Uint8Array(0), [MULTI]: fields(0n),
        [FEATURE]: feature(GET | MIGRATION, new Uint8Array(0), 16), [MIG_READ]: migRead(4), [MIG_WRITE]: migWrite(Uint8Array.of(1)),
      };
      for (const [where, served] of [[STOP, [READ, WRITE, FEATURE]], [STOP_COPY, [FEATURE, MIG_READ]]] as const) {
        expect(await client.errno(FEATURE, setState(where))).toBe(0);
        device.take();
        const allowed: number[] = [];
        for (let command = 0; command < 32; command++) if ((await client.errno(command, requests[command] ?? new Uint8Array(32))) === 0) allowed.push(command);
        expect(allowed).toEqual(served);
        expect(device.take()).toEqual(where === STOP ? ['read 0 0 4', 'write 0 0 1,0,0,0'] : []);
      }
      await run(client);
    },
  },
});
