import { providerChecks, selfTestCheck, type Channel, type EmudevProvider, type MemTable } from '@emudev/emudev';
import { IAVF_CONTRACT_VERSION, IAVF_DEV_TYPE, MAILBOX, MISC_VECTOR, REGION_DOORBELLS, rxQueueId, txQueueId, type MailboxReply, type MailboxRequest } from './contract.ts';
import type { IavfAttributes } from './attributes.ts';
import type { DoorbellPages } from './doorbells.ts';
import type { Interrupts } from './interrupts.ts';

export interface ProviderParts {
  readonly maxQueuePairs: number;
  /** Does a doorbell reach the device, or only the page? */
  readonly trapped: boolean;
  readonly attributes: IavfAttributes;
  readonly doorbells: DoorbellPages;
  readonly interrupts: Interrupts;
  readonly mailbox: Channel<MailboxReply, MailboxRequest>;
  memTable(): MemTable;
  close(): void | Promise<void>;
  /** As RESET_VF, which a host may also do by itself. */
  familyReset(): Promise<void>;
}

/** What the emudev class asks of the card. The admin queues have numbers but no description: the mailbox stands for them. */
export function iavfProvider(parts: ProviderParts): EmudevProvider {
  const { maxQueuePairs, doorbells, interrupts, attributes } = parts;
  const pairs = Array.from({ length: maxQueuePairs }, (_, pair) => pair);
  const doorbellOffsets = new Map(pairs.flatMap((pair) => [
    [txQueueId(pair), doorbells.txOffset(pair)] as const,
    [rxQueueId(pair), doorbells.rxOffset(pair)] as const,
  ]));
  const provider: EmudevProvider = {
    devType: IAVF_DEV_TYPE,
    contractVersion: IAVF_CONTRACT_VERSION,
    maxQueuePairs,
    numVectors: interrupts.vectors,
    attributes: attributes.byName,
    configure: (config) => {
      if (config.queuePairs !== undefined) attributes.configure(config.queuePairs);
    },
    close: () => parts.close(),
    familyReset: () => parts.familyReset(),
    memTable: () => parts.memTable(),
    // Ring and vector of a data queue travel in virtchnl messages; the vector named here is the one Linux and FreeBSD map it to.
    queueInfo: (queue) => (doorbellOffsets.has(queue) ? { base: 0n, size: 0, doorbellId: queue, irqVector: MISC_VECTOR + (queue >> 1) } : undefined),
    irqInfo: (vector) => (Number.isInteger(vector) && vector >= 0 && vector < interrupts.vectors ? { vector, fd: interrupts.fd(vector), cells: interrupts.cells(vector) } : undefined),
    doorbell: (id) => {
      const offset = doorbellOffsets.get(id);
      return offset === undefined ? undefined : { kind: 'mem', id, offset, trapped: parts.trapped };
    },
    region: (name) => (name === REGION_DOORBELLS.name ? doorbells.region : undefined),
    regionNames: () => [REGION_DOORBELLS.name],
    channel: (name) => (name === MAILBOX.name ? (parts.mailbox as Channel<unknown, unknown>) : undefined),
    // Looks, and touches nothing: a consumer may be there.
    selfTest: async () => [
      ...await providerChecks(provider),
      await selfTestCheck('doorbells', () => {
        const { offset, sizeBytes } = doorbells.region;
        const words = new Set(doorbellOffsets.values());
        const outside = [...words].filter((word) => word % 4 !== 0 || word < offset || word + 4 > offset + sizeBytes);
        if (words.size !== doorbellOffsets.size || outside.length > 0) throw new Error(`doorbells share a word or lie outside ${REGION_DOORBELLS.name}: ${outside.join(', ')}`);
        return `${words.size} words in ${REGION_DOORBELLS.name}`;
      }),
      await selfTestCheck('mailbox', () => {
        if (provider.channel(MAILBOX.name) !== parts.mailbox) throw new Error(`there is no channel ${MAILBOX.name}`);
        return MAILBOX.name;
      }),
    ],
  };
  return provider;
}
