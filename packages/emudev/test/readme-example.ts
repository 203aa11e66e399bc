import { attrKey, createChannel, EmudevRegistry, VdevBus, type EmudevProvider } from '../src/index.ts';

export const log: string[] = [];
const talk = createChannel<string, string>({ onSend: (message) => log.push(`back end: ${message}`), onHandlerError: console.error });
const provider: EmudevProvider = {
  devType: 'toy', contractVersion: 1, maxQueuePairs: 1, numVectors: 1,
  memTable: () => { throw new Error('a toy has no memory'); },
  queueInfo: () => undefined, irqInfo: () => undefined, doorbell: () => undefined, region: () => undefined,
  attributes: new Map([['colour', { get: () => 'red' }]]),
  channel: (name) => (name === 'talk' ? (talk.channel as never) : undefined),
};
const registry = new EmudevRegistry();
const port = registry.allocate('toy0', provider); // the provider's side: reports what the consumer does

const toy = registry.byName('toy0')!; // the back end's side
toy.attach({ ready: () => { log.push('ready'); }, lock: () => Promise.resolve(), unlock: () => {} }, { devType: 'toy', version: 1 });
toy.channel<string, string>({ name: 'talk' }).onMessage((message) => { toy.channel<string, string>({ name: 'talk' }).send(`${message} to you too`); });
await port.ready();
void talk.deliver('hello');
log.push(toy.getAttr(attrKey<string>('colour')), await new VdevBus({ registry }).help());
