/** A provider and a back end that note what they are asked. */
import { attrKey, channelKey, regionKey, type AttrKey, type BackEndHooks, type ChannelKey, type EmudevProvider, type MemTable, type RegionKey } from '../src/device.ts';
import { createChannel, type ProviderChannel } from '../src/channel.ts';

export const CONTRACT = { devType: 'toy', version: 1 };
export const COLOUR: AttrKey<{ red: number }> = attrKey('colour');
export const SERIAL: AttrKey<number> = attrKey('serial');
export const PAGE: RegionKey = regionKey('page');
export const TALK: ChannelKey<string, string> = channelKey('talk');

const memory: MemTable = { generation: 1, iotlb: 0, read: () => {}, write: () => {}, translate: () => undefined, pin: () => undefined };

export interface ToyProvider extends EmudevProvider {
  readonly log: string[];
  readonly talk: ProviderChannel<string, string>;
  readonly heard: string[];
}

export function toyProvider(overrides: Partial<EmudevProvider> = {}): ToyProvider {
  const log: string[] = [];
  const heard: string[] = [];
  let colour: unknown = { red: 1 };
  const talk = createChannel<string, string>({ onSend: (message) => heard.push(message), onHandlerError: (error) => log.push(`handler: ${(error as Error).message}`), limit: 3 });
  return {
    devType: 'toy', contractVersion: 1, maxQueuePairs: 4, numVectors: 2,
    configure: (config) => { log.push(`configure ${config.queuePairs ?? 'default'}`); },
    start: () => { log.push('start'); },
    stop: () => { log.push('stop'); },
    close: () => { log.push('close'); },
    memTable: () => memory,
    queueInfo: (queue) => (queue === 0 ? { base: 0n, size: 0, doorbellId: 0, irqVector: 1 } : undefined),
    irqInfo: (vector) => (vector < 2 ? { vector, fd: -1, cells: 64 } : undefined),
    doorbell: (id) => (id === 0 ? { kind: 'mem', id, offset: 4096, trapped: false } : undefined),
    attributes: new Map<string, { get(): unknown; set?(value: unknown): void }>([
      ['colour', { get: () => colour, set: (value) => { colour = value; } }],
      ['serial', { get: () => 7 }],
      ['picky', { get: () => 0, set: () => { throw new Error('expected a mood'); } }],
    ]),
    region: (name) => (name === 'page' ? { offset: 4096, sizeBytes: 4096 } : undefined),
    channel: (name) => (name === 'talk' ? (talk.channel as never) : undefined),
    ...overrides,
    log, talk, heard,
  };
}

export class LoggingBackEnd implements BackEndHooks {
  readonly log: string[] = [];
  #inside = 0;
  /** Every awaited hook takes a turn of the event loop, in which nothing else may be called. */
  async #hook(name: string): Promise<void> {
    if (this.#inside > 0) this.log.push(`RE-ENTERED ${name}`);
    this.#inside++;
    await new Promise((resolve) => { setImmediate(resolve); });
    this.log.push(name);
    this.#inside--;
  }

  start(): Promise<void> { return this.#hook('start'); }
  stop(): Promise<void> { return this.#hook('stop'); }
  ready(): Promise<void> { return this.#hook('ready'); }
  destroyed(reason: string): Promise<void> { return this.#hook(`destroyed ${reason}`); }
  updated(what: { dma: boolean; irqs: boolean }): void { this.log.push(`updated ${what.dma ? 'dma' : 'irqs'}`); }
  reset(kind: string): Promise<void> { return this.#hook(`reset ${kind}`); }
  lock(): Promise<void> { return this.#hook('lock'); }
  unlock(): void { this.log.push('unlock'); }
}

export const code = (wanted: string): unknown => ({ code: wanted });
