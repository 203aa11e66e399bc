/** The provider suite's cases of what a device tells a back end: attributes, regions, queues, vectors, doorbells, memory. */
import { equal, notEqual, ok } from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { WINDOW_BYTES } from '@emudev/dma';
import { attrKey, channelKey, eventsKey, regionKey, type Emudev } from '@emudev/emudev';
import { linux } from '@emudev/linux';
import { codeOf, refuses, same, thrownBy, type ConformanceCase } from '../suite.ts';
import type { ProviderCase } from './rig.ts';

const UNKNOWN = 'no such name';
/** Queue and doorbell numbers that are tried. */
const NUMBERS = 64;
const WRONG_NUMBERS = [-1, 0.5, Number.NaN, 1_000_000, Number.POSITIVE_INFINITY];

/** Values like this one but different, any of which a provider may refuse. */
function others(value: unknown): unknown[] {
  if (typeof value === 'number') return [value + 1, value - 1, 1, 0].filter((other) => other !== value);
  if (typeof value === 'boolean') return [!value];
  if (typeof value === 'string') return [`${value}x`, value.slice(1)];
  if (value instanceof Uint8Array) return value.length === 0 ? [] : [value.with(-1, value.at(-1)! ^ 1)];
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([key, inner]) => others(inner).map((other) => ({ ...value, [key]: other })));
  }
  return [];
}

/** What a write of `value` did: true: accepted. Fails for an error that is not the class's own. */
function set(emudev: Emudev, name: string, value: unknown): boolean {
  try {
    emudev.setAttr(attrKey(name), value);
    return true;
  } catch (error) {
    ok(['EMUDEV_BAD_ARG', 'EMUDEV_UNSUPPORTED'].includes(codeOf(error) ?? ''), `attribute ${name} refuses with EMUDEV_BAD_ARG or EMUDEV_UNSUPPORTED, not ${String(error)}`);
    return false;
  }
}

export function descriptionCases(on: ProviderCase): readonly ConformanceCase[] {
  return [
    {
      id: 'provider.unknown-names',
      title: 'names it does not know are errors: attributes, regions, channels, event rings',
      run: () => on(async ({ emudev }) => {
        await refuses('getAttr', 'EMUDEV_NO_ATTR', () => emudev.getAttr(attrKey(UNKNOWN)));
        await refuses('setAttr', 'EMUDEV_NO_ATTR', () => { emudev.setAttr(attrKey(UNKNOWN), 1); });
        await refuses('getAttrText', 'EMUDEV_NO_ATTR', () => emudev.getAttrText(UNKNOWN));
        await refuses('setAttrText', 'EMUDEV_NO_ATTR', () => { emudev.setAttrText(UNKNOWN, '1'); });
        await refuses('mapRegion', 'EMUDEV_NO_REGION', () => emudev.mapRegion(regionKey(UNKNOWN)));
        await refuses('channel', 'EMUDEV_NO_CHANNEL', () => emudev.channel(channelKey(UNKNOWN)));
        await refuses('events', 'EMUDEV_NO_CHANNEL', () => emudev.events(eventsKey(UNKNOWN)));
      }),
    },
    {
      id: 'provider.attributes-read',
      title: 'every attribute it lists can be read in every state but closed, as a snapshot',
      run: () => on(async (rig) => {
        const { emudev } = rig;
        const read = (): void => {
          const names = emudev.attrNames();
          equal(new Set(names).size, names.length, 'attrNames lists every name once');
          for (const name of names) {
            const value: unknown = emudev.getAttr(attrKey(name));
            notEqual(value, undefined, `attribute ${name} has a value`);
            if (value instanceof Uint8Array && value.length > 0) {
              value[0]! ^= 0xff;
              ok(!isDeepStrictEqual(emudev.getAttr(attrKey(name)), value), `attribute ${name} is a snapshot: what a reader does to it is the reader's`);
            }
          }
        };
        read();
        await rig.start();
        read();
        await rig.ready();
        read();
        await emudev.stop();
        read();
      }),
    },
    {
      id: 'provider.attributes-written',
      title: 'an attribute that takes a value has it afterwards, and tells observers',
      run: () => on(({ emudev }) => {
        for (const name of emudev.attrNames()) {
          const original: unknown = emudev.getAttr(attrKey(name));
          const told: string[] = [];
          using _observer = emudev.on('attributeChanged', (changed) => { told.push(changed); });
          for (const value of others(original)) {
            if (!set(emudev, name, value)) continue;
            same(`attribute ${name} after it was set`, emudev.getAttr(attrKey(name)), value);
            ok(told.includes(name), `attributeChanged tells of ${name}`);
            ok(set(emudev, name, original), `attribute ${name} takes its old value again`);
            same(`attribute ${name} after it was set back`, emudev.getAttr(attrKey(name)), original);
            break;
          }
        }
      }),
    },
    {
      id: 'provider.attributes-hostile',
      title: 'an attribute refuses what is no value of it, and keeps what it had',
      run: () => on(({ emudev }) => {
        const nonsense: unknown[] = [undefined, null, Number.NaN, -1, 1e300, '', 'nonsense', true, {}, [], 10n, new Uint8Array(0), new Uint8Array(7), { up: 'yes' }];
        for (const name of emudev.attrNames()) {
          const original: unknown = emudev.getAttr(attrKey(name));
          for (const value of nonsense) {
            if (set(emudev, name, value)) {
              same(`attribute ${name} took ${String(value)}`, emudev.getAttr(attrKey(name)), value);
              emudev.setAttr(attrKey(name), original);
            } else same(`attribute ${name} after it refused ${String(value)}`, emudev.getAttr(attrKey(name)), original);
          }
        }
      }),
    },
    {
      id: 'provider.attributes-text',
      title: 'an attribute with a text form reads back from it what it prints',
      run: () => on(async ({ emudev }) => {
        for (const name of emudev.attrNames()) {
          let text: string;
          try {
            text = emudev.getAttrText(name);
          } catch (error) {
            equal(codeOf(error), 'EMUDEV_UNSUPPORTED', `attribute ${name} has a text form or says that it has none: ${String(error)}`);
            continue;
          }
          equal(typeof text, 'string', `the text of ${name}`);
          const original: unknown = emudev.getAttr(attrKey(name));
          try {
            emudev.setAttrText(name, text);
          } catch (error) {
            equal(codeOf(error), 'EMUDEV_UNSUPPORTED', `attribute ${name} reads its own text '${text}': ${String(error)}`);
            continue;
          }
          same(`attribute ${name} after its own text`, emudev.getAttr(attrKey(name)), original);
          if (typeof original === 'string') continue;
          await refuses(`attribute ${name} from nonsense`, 'EMUDEV_BAD_ARG', () => { emudev.setAttrText(name, '\u0000 nonsense'); });
          equal(emudev.getAttrText(name), text, `the text of ${name} after nonsense`);
        }
      }),
    },
    {
      id: 'provider.not-ready',
      title: 'says EMUDEV_NOT_READY of memory, queues, vectors and doorbells until a consumer has mapped memory, and again when it has gone',
      run: () => on(async (rig) => {
        const { emudev, host } = rig;
        const refused = async (when: string): Promise<void> => {
          for (const [what, call] of Object.entries({ memTable: () => emudev.memTable(), queueInfo: () => emudev.queueInfo(0), irqInfo: () => emudev.irqInfo(0), doorbell: () => emudev.doorbell(0) })) {
            await refuses(`${what} ${when}`, 'EMUDEV_NOT_READY', call);
          }
        };
        await refused('without a consumer');
        await host.connect();
        await refused('before memory is mapped');
        await rig.ready();
        emudev.memTable();
        await host.disconnect();
        await refused('after the consumer has gone');
      }),
    },
    {
      id: 'provider.mem-table',
      title: 'hands out the consumer\'s memory as it is',
      run: () => on(async (rig) => {
        await rig.ready();
        const { emudev, host } = rig;
        const [{ iova } = { iova: 0n }] = host.memory.regions();
        host.memory.poke(iova, Uint8Array.of(1, 2, 3));
        const into = new Uint8Array(3);
        await emudev.memTable().read(iova, into);
        same('bytes of guest memory', [...into], [1, 2, 3]);
        await emudev.memTable().write(iova + 8n, Uint8Array.of(9));
        same('a byte written to guest memory', [...host.memory.peek(iova + 8n, 1)], [9]);
        const error = await thrownBy('a read of memory that is not mapped', async () => { await emudev.memTable().read(0x7fff_0000_0000n, into); });
        ok(error instanceof Error && 'errno' in error, `memory that is not mapped is a typed error, not ${String(error)}`);
        equal(emudev.memTable().translate(0x7fff_0000_0000n, 1, 'read'), undefined);
      }),
    },
    {
      id: 'provider.ranges',
      title: 'queues, vectors and doorbells that it has not are EMUDEV_RANGE; those that it has are described within its own limits',
      run: () => on(async (rig) => {
        await rig.ready();
        const { emudev } = rig;
        for (const number of [...WRONG_NUMBERS, Math.max(NUMBERS, emudev.info.numVectors)]) {
          await refuses(`irqInfo(${number})`, 'EMUDEV_RANGE', () => emudev.irqInfo(number));
        }
        for (const number of WRONG_NUMBERS) {
          await refuses(`queueInfo(${number})`, 'EMUDEV_RANGE', () => emudev.queueInfo(number));
          await refuses(`doorbell(${number})`, 'EMUDEV_RANGE', () => emudev.doorbell(number));
        }
        await refuses('irqInfo of the vector behind the last', 'EMUDEV_RANGE', () => emudev.irqInfo(emudev.info.numVectors));
        for (let vector = 0; vector < emudev.info.numVectors; vector++) {
          const { vector: named, cells, fd } = emudev.irqInfo(vector);
          equal(named, vector, `irqInfo(${vector}).vector`);
          ok(Number.isInteger(cells) && cells > 0 && cells % 4 === 0 && cells < WINDOW_BYTES, `the cells of vector ${vector} lie in the window, not at ${cells}`);
          ok(Number.isInteger(fd) && fd >= -1, `irqInfo(${vector}).fd is a descriptor or -1, not ${fd}`);
        }
        for (let queue = 0; queue < NUMBERS; queue++) {
          try {
            const { base, size, doorbellId, irqVector } = emudev.queueInfo(queue);
            ok(base >= 0n && Number.isInteger(size) && size >= 0, `queueInfo(${queue}): base and size`);
            emudev.doorbell(doorbellId);
            ok(irqVector < emudev.info.numVectors, `queueInfo(${queue}).irqVector is one of ${emudev.info.numVectors}, not ${irqVector}`);
          } catch (error) {
            if (codeOf(error) !== 'EMUDEV_RANGE') throw error;
          }
        }
      }),
    },
    {
      id: 'provider.doorbells',
      title: 'every doorbell is of one of the three kinds, and can be used',
      run: () => on(async (rig) => {
        await rig.ready();
        for (let id = 0; id < NUMBERS; id++) {
          let info: ReturnType<Emudev['doorbell']>;
          try {
            info = rig.emudev.doorbell(id);
          } catch (error) {
            equal(codeOf(error), 'EMUDEV_RANGE', `doorbell(${id}): ${String(error)}`);
            continue;
          }
          equal(info.id, id, `doorbell(${id}).id`);
          if (info.kind === 'mem') ok(info.offset > 0 && info.offset % 4 === 0 && info.offset + 4 <= WINDOW_BYTES, `doorbell ${id} is a word of the window, not at ${info.offset}`);
          else if (info.kind === 'fd') ok(linux.isValidFd(info.fd), `doorbell ${id} has an open descriptor`);
          else info.subscribe(() => {})[Symbol.dispose]();
        }
      }),
    },
    {
      id: 'provider.regions-shared',
      title: 'every region it lists lies in the window and is as large as it says',
      run: () => on(async ({ emudev }) => {
        for (const name of emudev.regionNames()) {
          const { offset, sizeBytes, backing } = emudev.mapRegion(regionKey(name));
          ok(offset > 0 && sizeBytes > 0 && offset + sizeBytes <= WINDOW_BYTES, `region ${name}: ${sizeBytes} bytes at ${offset} lie in the window`);
          emudev.mapRegion(regionKey(name), sizeBytes);
          await refuses(`region ${name} with a byte more than it has`, 'EMUDEV_RANGE', () => emudev.mapRegion(regionKey(name), sizeBytes + 1));
          if (backing !== undefined) ok(linux.fstat(backing.fd).sizeBytes >= backing.offset + sizeBytes, `the file behind region ${name} holds all of it`);
        }
      }),
    },
  ];
}
