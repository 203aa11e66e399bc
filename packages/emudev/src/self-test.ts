/** What self-tests are made of, and the checks that every provider can make of what it tells a back end. */
import { WINDOW_BYTES } from '@emudev/dma';
import type { AttrType } from './attr-type.ts';
import type { EmudevProvider, SelfTestCheck } from './device.ts';
import { EmudevError } from './errors.ts';
import { VECTOR_CELLS_BYTES } from './vector.ts';

/** One check: `body` returns what it has seen, and throws an Error that says what is wrong. Never rejects. */
export async function selfTestCheck(name: string, body: () => string | Promise<string>): Promise<SelfTestCheck> {
  try {
    return { name, passed: true, text: await body() };
  } catch (error) {
    return { name, passed: false, text: error instanceof Error ? error.message : String(error) };
  }
}

const NO_NUMBERS = [-1, 0.5, Number.NaN, 1_000_000];

function expectThat(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}

/** Asks a provider everything a back end may ask it, and changes nothing: harmless in any state but closed. */
export async function providerChecks(provider: EmudevProvider): Promise<readonly SelfTestCheck[]> {
  return [
    await selfTestCheck('attributes', () => checkAttributes(provider)),
    await selfTestCheck('regions', () => checkRegions(provider)),
    await selfTestCheck('vectors', () => checkVectors(provider)),
    await selfTestCheck('queues', () => checkQueues(provider)),
    await selfTestCheck('memory table', () => checkMemory(provider)),
  ];
}

function checkAttributes({ attributes }: EmudevProvider): string {
  const seen: string[] = [];
  for (const [name, attribute] of attributes) {
    const value = attribute.get();
    const type: AttrType<unknown> | undefined = attribute.type;
    if (type !== undefined) {
      try {
        type.check(value);
        type.check(type.parse(type.format(value)));
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
      }
      seen.push(`${name}=${type.format(value)}`);
    } else {
      seen.push(name);
    }
  }
  return seen.join(', ') || 'none';
}

function checkRegions(provider: EmudevProvider): string {
  const names = provider.regionNames?.() ?? [];
  for (const name of names) {
    const region = provider.region(name);
    expectThat(region !== undefined, `${name} is listed, but not there`);
    const { offset, sizeBytes } = region;
    expectThat(offset > 0 && sizeBytes > 0 && offset + sizeBytes <= WINDOW_BYTES, `${name}: ${sizeBytes} bytes at ${offset} are not in the window`);
  }
  return names.join(', ') || 'none';
}

function checkVectors(provider: EmudevProvider): string {
  const cells = new Set<number>();
  for (let vector = 0; vector < provider.numVectors; vector++) {
    const info = provider.irqInfo(vector);
    expectThat(info?.vector === vector, `vector ${vector} is not described`);
    expectThat(info.cells > 0 && info.cells % VECTOR_CELLS_BYTES === 0 && !cells.has(info.cells), `vector ${vector} has no cells of its own (${info.cells})`);
    cells.add(info.cells);
  }
  for (const vector of [...NO_NUMBERS, provider.numVectors]) expectThat(provider.irqInfo(vector) === undefined, `vector ${vector} is described, and there is none`);
  return `${provider.numVectors}`;
}

/** Queue numbers are the family's; those below 2 + 2 × pairs cover every family that has two per pair and two of its own. */
function checkQueues(provider: EmudevProvider): string {
  let queues = 0;
  for (let queue = 0; queue < 2 + 2 * provider.maxQueuePairs; queue++) {
    const info = provider.queueInfo(queue);
    if (info === undefined) continue;
    queues++;
    expectThat(provider.doorbell(info.doorbellId)?.id === info.doorbellId, `queue ${queue} has no doorbell ${info.doorbellId}`);
    expectThat(info.irqVector >= 0 && info.irqVector < provider.numVectors, `queue ${queue} has no vector ${info.irqVector}`);
  }
  for (const number of NO_NUMBERS) expectThat(provider.queueInfo(number) === undefined && provider.doorbell(number) === undefined, `queue or doorbell ${number} is described, and there is none`);
  expectThat(queues >= provider.maxQueuePairs, `${queues} queues are described, for ${provider.maxQueuePairs} pairs`);
  return `${queues} of ${provider.maxQueuePairs} pairs`;
}

function checkMemory(provider: EmudevProvider): string {
  try {
    return `generation ${provider.memTable().generation}`;
  } catch (error) {
    if (error instanceof EmudevError && error.code === 'EMUDEV_NOT_READY') return 'no consumer';
    throw error;
  }
}
