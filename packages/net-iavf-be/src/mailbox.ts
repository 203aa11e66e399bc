/** The virtchnl side of the card: one reply for every request, in order, and the events in between. */
import { channel as diagnosticsChannel } from 'node:diagnostics_channel';
import { setTimeout as delay } from 'node:timers/promises';
import type { Channel } from '@emudev/emudev';
import type { LinkState, MailboxReply, MailboxRequest } from '@emudev/iavf-emu/contract';
import { Capability, capabilityNames, encodeEvent, Opcode, opcodeName, Status, VirtchnlError, type VirtchnlEvent } from '@emudev/virtchnl';
import type { Adapter } from './adapter.ts';
import { RESET_NOTICE_MS } from './limits.ts';
import { irqMapOperations } from './virtchnl/irq-map.ts';
import { macOperations } from './virtchnl/mac.ts';
import type { Operation, Outcome } from './virtchnl/operation.ts';
import { promiscOperations } from './virtchnl/promisc.ts';
import { queueOperations } from './virtchnl/queues.ts';
import { resourceOperations } from './virtchnl/resources.ts';
import { rssOperations } from './virtchnl/rss.ts';
import { statsOperations } from './virtchnl/stats.ts';
import { vlanV2Operations } from './virtchnl/vlan-v2.ts';
import { vlanOperations } from './virtchnl/vlan.ts';

/**
 * `node:diagnostics_channel` of what went wrong, as `BackEndDiagnostic`. Worth a log line: Linux ignores the status of a refused
 * CONFIG or ENABLE, and the trouble shows much later as a transmit time-out.
 */
export const BACK_END_DIAGNOSTICS = 'emudev.net_iavf_be';

/** Published on the node:diagnostics_channel named `BACK_END_DIAGNOSTICS`. */
export interface BackEndDiagnostic {
  readonly port: string;
  /** refused: the guest asked for something wrong; failed: we could not; ring-lost: a DMA unmap took an enabled ring away; ring-bounced: a ring is served by DMA messages; ring-unreachable: the consumer does not answer them. */
  readonly event: 'refused' | 'failed' | 'ring-lost' | 'ring-bounced' | 'ring-unreachable';
  readonly message: string;
}

const diagnostics = diagnosticsChannel(BACK_END_DIAGNOSTICS);
export function report(diagnostic: BackEndDiagnostic): void {
  if (diagnostics.hasSubscribers) diagnostics.publish(diagnostic);
}

const OPERATIONS: ReadonlyMap<number, Operation> = new Map(
  [
    ...resourceOperations, ...queueOperations, ...irqMapOperations, ...macOperations, ...vlanOperations, ...vlanV2Operations, ...promiscOperations, ...rssOperations,
    ...statsOperations,
  ].map((operation) => [operation.opcode, operation]),
);
/** Every opcode with an operation. */
export const SUPPORTED_OPCODES: readonly number[] = [...OPERATIONS.keys()];

const EMPTY = new Uint8Array(0);

export class Mailbox {
  requests = 0n;
  /** Answered with a status that is not SUCCESS because of the guest. */
  refused = 0n;
  /** Answered with ERR_ADMIN_QUEUE_ERROR because of us. */
  failed = 0n;
  readonly #port: string;
  readonly #adapter: Adapter;
  readonly #channel: Channel<MailboxReply, MailboxRequest>;
  readonly #link: () => LinkState;
  readonly #onRunning: () => void;

  /** `onRunning`: after every request that may have enabled or disabled queues. */
  constructor(port: string, adapter: Adapter, channel: Channel<MailboxReply, MailboxRequest>, link: () => LinkState, onRunning: () => void) {
    this.#port = port;
    this.#adapter = adapter;
    this.#channel = channel;
    this.#link = link;
    this.#onRunning = onRunning;
  }

  /** Never throws, whatever the guest sends. Synchronous where the operation is. */
  handle(request: MailboxRequest): void | Promise<void> {
    this.requests++;
    const { generation } = this.#adapter;
    try {
      const outcome = this.#perform(request);
      if (!(outcome instanceof Promise)) return this.#finish(request.opcode, generation, outcome);
      return outcome.then(
        (late) => this.#finish(request.opcode, generation, late),
        (error: unknown) => {
          this.#refuse(request.opcode, generation, error);
        },
      );
    } catch (error) {
      this.#refuse(request.opcode, generation, error);
    }
  }

  #perform({ opcode, payload }: MailboxRequest): Outcome | Promise<Outcome> {
    const operation = OPERATIONS.get(opcode);
    if (operation === undefined) throw new VirtchnlError('ERR_VIRTCHNL_NOT_SUPPORTED', { opcode, expected: 'an opcode of ours', seen: opcodeName(opcode) });
    const run = operation.decode(payload); // GUEST: every byte
    this.#requireAllowed(operation);
    return run(this.#adapter);
  }

  #requireAllowed({ opcode, requires }: Operation): void {
    if (requires === 'always') return;
    const { capabilities } = this.#adapter;
    if (capabilities === undefined) throw new VirtchnlError('ERR_VIRTCHNL_NOT_SUPPORTED', { opcode, expected: 'GET_VF_RESOURCES first', seen: 'nothing negotiated since the last reset' });
    if (requires !== 0 && (capabilities & requires) === 0) {
      throw new VirtchnlError('ERR_VIRTCHNL_NOT_SUPPORTED', { opcode, expected: capabilityNames(requires).join(' or '), seen: capabilityNames(capabilities).join(', ') });
    }
  }

  /** What began before a reset is not answered after it: the driver would take it for the answer to something else. */
  #finish(opcode: number, generation: number, outcome: Outcome): void | Promise<void> {
    if (this.#adapter.generation !== generation) return;
    if (outcome.silent !== true) this.#send(opcode, Status.SUCCESS, outcome.payload ?? EMPTY);
    if (outcome.linkEvent === true) this.linkChanged();
    this.#onRunning();
    if (outcome.reset !== true) return;
    if (outcome.announceReset !== true) {
      this.#channel.send({ kind: 'reset' });
      return;
    }
    this.#event({ kind: 'reset-impending' });
    return delay(RESET_NOTICE_MS).then(() => {
      if (this.#adapter.generation === generation) this.#channel.send({ kind: 'reset' });
    });
  }

  #refuse(opcode: number, generation: number, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const mistake = error instanceof VirtchnlError;
    if (mistake) this.refused++;
    else this.failed++;
    report({ port: this.#port, event: mistake ? 'refused' : 'failed', message: mistake ? message : `${opcodeName(opcode)}: ${message}` });
    if (this.#adapter.generation === generation) this.#send(opcode, mistake ? error.status : Status.ERR_ADMIN_QUEUE_ERROR, EMPTY);
  }

  /** Tells a guest that has negotiated; Linux ignores a link that comes up before its queues are enabled. */
  linkChanged(): void {
    if (this.#adapter.capabilities !== undefined) this.#event({ kind: 'link-change', ...this.#link() });
  }

  #event(event: VirtchnlEvent): void {
    this.#send(Opcode.EVENT, Status.SUCCESS, encodeEvent(event, this.#adapter.has(Capability.ADV_LINK_SPEED)));
  }

  #send(opcode: number, status: number, payload: Uint8Array): void {
    this.#channel.send({ kind: 'message', opcode, status, payload });
  }
}
