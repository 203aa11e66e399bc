/** DEVICE_FEATURE: what the device can do beyond registers, asked, read and set. The numbers are those of linux/vfio.h. */
import {
  DEVICE_FEATURE_BYTES, MAX_ARGSZ_BYTES, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, VFIO_USER_DEVICE_FEATURE,
  decodeDeviceFeatureReply, encodeDeviceFeature,
} from '@emudev/vfio-user-protocol';
import { badArgument, badServer, ClientError } from './errors.ts';
import { isIndex } from './link.ts';
import type { Link, Requester } from './link.ts';
import type { CallOptions } from './requests.ts';

/** VFIO_DEVICE_FEATURE_GET and _SET. */
export type FeatureOperation = 'get' | 'set';

export interface GetFeatureOptions extends CallOptions {
  /** What goes along with the question. */
  readonly data?: Uint8Array;
  /** Longest answer that is accepted, in bytes. */
  readonly maxBytes: number;
}

const OPERATION_FLAGS: Readonly<Record<FeatureOperation, number>> = { get: VFIO_DEVICE_FEATURE_GET, set: VFIO_DEVICE_FEATURE_SET };

/** `VfioUserClient.features`: DEVICE_FEATURE by number (VFIO_DEVICE_FEATURE_*). ERR_VFU_CLIENT_REFUSED where the device does not have one. */
export class Features {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  /** Whether the device offers these operations on a feature; false where it refuses the question. */
  async probe(feature: number, operations: readonly FeatureOperation[], call: CallOptions = {}): Promise<boolean> {
    if (operations.length === 0) throw badArgument('operations to probe: at least one');
    const flags = operations.reduce((sum, operation) => sum | OPERATION_FLAGS[operation], VFIO_DEVICE_FEATURE_PROBE);
    try {
      await sendFeature(this.#link, feature, flags, new Uint8Array(0), call);
      return true;
    } catch (error) {
      if (error instanceof ClientError && error.code === 'ERR_VFU_CLIENT_REFUSED') return false;
      throw error;
    }
  }

  /** The feature's data. */
  get(feature: number, options: GetFeatureOptions): Promise<Uint8Array> {
    return this.ask(feature, options, (data) => data);
  }

  /** As `get`; what `decode` throws about the data ends the connection. */
  async ask<T>(feature: number, options: GetFeatureOptions, decode: (data: Uint8Array) => T): Promise<T> {
    const { data = new Uint8Array(0), maxBytes } = options;
    checkFeature(feature);
    if (!isIndex(maxBytes, MAX_ARGSZ_BYTES - DEVICE_FEATURE_BYTES + 1)) throw badArgument(`an answer of ${maxBytes} bytes`);
    const argsz = DEVICE_FEATURE_BYTES + Math.max(maxBytes, data.length);
    return this.#link.request(VFIO_USER_DEVICE_FEATURE, encodeDeviceFeature(feature, VFIO_DEVICE_FEATURE_GET, data, argsz), {
      ...options,
      maxReplyBytes: DEVICE_FEATURE_BYTES + maxBytes,
      accept: (payload) => {
        // libvfio-user answers a report across several DMA regions with a bare header: it has none of what was asked for.
        if (payload.length === 0) throw new ClientError('ERR_VFU_CLIENT_SHORT', `no data of feature ${feature} in the answer`);
        const reply = decodeDeviceFeatureReply(payload);
        if (reply.feature !== feature || reply.operations !== VFIO_DEVICE_FEATURE_GET) throw badServer(`feature ${reply.feature} in answer to ${feature}`);
        return decode(reply.data);
      },
    });
  }

  /** Writes the feature's data. */
  set(feature: number, data: Uint8Array, call: CallOptions = {}): Promise<void> {
    return sendFeature(this.#link, feature, VFIO_DEVICE_FEATURE_SET, data, call);
  }
}

/** SET and PROBE: the answer is the request, byte for byte. */
export async function sendFeature(to: Requester, feature: number, operations: number, data: Uint8Array, call: CallOptions): Promise<void> {
  checkFeature(feature);
  const request = encodeDeviceFeature(feature, operations, data);
  await to.request(VFIO_USER_DEVICE_FEATURE, request, {
    ...call,
    maxReplyBytes: request.length,
    accept: (payload) => {
      if (payload.length !== request.length || payload.some((byte, i) => byte !== request[i])) throw badServer(`an answer that does not echo the request about feature ${feature}`);
    },
  });
}

function checkFeature(feature: number): void {
  if (!isIndex(feature, VFIO_DEVICE_FEATURE_MASK + 1)) throw badArgument(`feature ${feature}`);
}
