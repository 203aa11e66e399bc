/** One exchange as a line, in the manner of strace. */
import {
  describeMessage, errnoName, regionName, VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, type DescribedField, type MessageDescription,
} from '@emudev/vfio-user-protocol';
import { printable } from '../printable.ts';
import { descriptorText, type DescriptorInfo } from './descriptors.ts';
import type { DeviceDictionary, RegisterNames } from './dictionary.ts';
import { errnoOf, latencyMs, type Exchange, type Half } from './exchanges.ts';

const ACCESS_BYTES = 16;

/** What a line is made of; colours go by part. */
export interface Line {
  /** 'REGION_READ', or what there is instead. */
  readonly name: string;
  /** '(BAR0 VFINT_DYN_CTL01 +0x5c00, 4)'. */
  readonly call: string;
  /** '= 0x00000000', '= -1 EINVAL (region 9 of 9)', 'posted'. */
  readonly result: string;
  readonly failed: boolean;
  /** '<23.1 µs>', or ''. */
  readonly latency: string;
  /** What is wrong with the messages, or ''. */
  readonly malformed: string;
}

export interface Described {
  readonly request?: MessageDescription;
  readonly reply?: MessageDescription;
}

export class Formatter {
  readonly #names: RegisterNames;
  readonly #maxDataBytes: number;

  constructor(names: RegisterNames, maxDataBytes: number) {
    this.#names = names;
    this.#maxDataBytes = maxDataBytes;
  }

  line(exchange: Exchange): Line {
    const { request, reply, raw } = exchange;
    if (raw !== undefined) {
      const hex = Buffer.from(raw.bytes.subarray(0, this.#maxDataBytes)).toString('hex');
      return { name: 'raw', call: `(${raw.size} bytes, ${hex}${raw.bytes.length > this.#maxDataBytes ? '...' : ''}${descriptors(raw.fds)})`, result: '', failed: false, latency: '', malformed: '' };
    }
    const described = this.describe(exchange);
    const { name } = (described.request ?? described.reply)!;
    const failed = errnoOf(exchange) !== 0;
    const latency = latencyMs(exchange);
    return {
      name,
      call: request === undefined ? '(?)' : `(${this.#arguments(exchange, request, described.request!)}${descriptors(request.message.fds)})`,
      result: this.#result(exchange, described),
      failed,
      latency: latency === undefined ? '' : `<${durationText(latency)}>`,
      malformed: [malformed('request', request, described.request), malformed('reply', reply, described.reply)].filter((text) => text !== '').join('; '),
    };
  }

  /** The fields of both messages, for programs. */
  describe(exchange: Exchange): Described {
    const { request, reply, facts } = exchange;
    const device = this.#names.deviceOf(facts.vendor, facts.device);
    const context = {
      maxDataBytes: this.#maxDataBytes,
      registerName: (region: number, offset: number, bytes: number) => this.#names.nameOf(device, region, offset, bytes),
      ...(facts.dmaDialect === undefined ? {} : { dmaDialect: facts.dmaDialect }),
    };
    return {
      ...(request === undefined ? {} : { request: describeMessage(request.header, request.payload, context) }),
      ...(reply === undefined ? {} : { reply: describeMessage(reply.header, reply.payload, request === undefined ? context : { ...context, request: { command: request.header.command, payload: request.payload } }) }),
    };
  }

  #arguments(exchange: Exchange, request: Half, described: MessageDescription): string {
    const access = accessOf(request);
    if (access === undefined) return fieldsText(described.fields);
    const device = this.#device(exchange);
    const register = this.#names.nameOf(device, access.region, access.offset, access.count);
    const place = `${regionName(access.region)}${register === undefined ? '' : ` ${register}`} +0x${access.offset.toString(16)}, ${access.count}`;
    if (request.header.command === VFIO_USER_REGION_READ) return place;
    return `${place}, ${valueOf(described, 'data')}${this.#bits(device, access, request.payload)}`;
  }

  #result(exchange: Exchange, { reply: described }: Described): string {
    const { request, reply, posted } = exchange;
    if (posted) return 'posted';
    if (reply === undefined || described === undefined) return '= ?';
    if (errnoOf(exchange) !== 0) {
      const why = request === undefined ? undefined : exchange.facts.explain(request);
      return `= -1 ${errnoName(errnoOf(exchange))}${why === undefined ? '' : ` (${why})`}${bracketed(reply.message.fds)}`;
    }
    const sent = request === undefined ? undefined : accessOf(request);
    const got = accessOf(reply);
    if (sent !== undefined && got?.offset === sent.offset && got.region === sent.region) {
      const short = got.count === sent.count ? '' : ` (${got.count} of ${sent.count} bytes)`;
      if (reply.header.command === VFIO_USER_REGION_WRITE) return `= ${got.count}${short}`;
      return `= ${valueOf(described, 'data')}${this.#bits(this.#device(exchange), got, reply.payload)}${short}`;
    }
    const text = fieldsText(described.fields);
    return `= ${text === '' ? '0' : `{${text}}`}${bracketed(reply.message.fds)}`;
  }

  /** ' {ENABLE MODE=fast}' for registers whose bits have names. */
  #bits(device: DeviceDictionary | undefined, access: { region: number; offset: number; count: number }, payload: Uint8Array): string {
    const bits = this.#names.valueOf(device, access.region, access.offset, payload.subarray(ACCESS_BYTES, ACCESS_BYTES + access.count));
    return bits === undefined ? '' : ` {${bits}}`;
  }

  #device({ facts }: Exchange): DeviceDictionary | undefined {
    return this.#names.deviceOf(facts.vendor, facts.device);
  }
}

/** Offset, region and count of a region access, either half; undefined where it is none, or not decodable. */
export function accessOf({ header, payload }: Half): { readonly offset: number; readonly region: number; readonly count: number } | undefined {
  if ((header.command !== VFIO_USER_REGION_READ && header.command !== VFIO_USER_REGION_WRITE) || payload.length < ACCESS_BYTES) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const offset = view.getBigUint64(0, true);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return { offset: Number(offset), region: view.getUint32(8, true), count: view.getUint32(12, true) };
}

/** argsz is left out: it is the room for the reply, and says nothing about the device. */
function fieldsText(fields: readonly DescribedField[]): string {
  return fields.filter(({ name }) => name !== 'argsz' && name !== 'fds').map(({ name, value }) => `${name}=${value}`).join(', ');
}

function valueOf(description: MessageDescription, name: string): string {
  return description.fields.find((field) => field.name === name)?.value ?? 'none';
}

function malformed(which: string, half: Half | undefined, description: MessageDescription | undefined): string {
  if (half === undefined) return '';
  if (half.message.framing === 'cut') return `${which} of ${half.message.size} bytes, ${half.message.bytes.length} kept`;
  return description?.malformed === undefined ? '' : `malformed ${which}: ${description.malformed}`;
}

function descriptors(fds: readonly DescriptorInfo[]): string {
  return fds.map((fd) => `, fd=${printable(descriptorText(fd), 80)}`).join('');
}

function bracketed(fds: readonly DescriptorInfo[]): string {
  return fds.length === 0 ? '' : ` [${fds.map((fd) => `fd=${printable(descriptorText(fd), 80)}`).join(', ')}]`;
}

/** '23.1 µs', '4.50 ms', '2.000 s'. */
export function durationText(ms: number): string {
  if (ms < 1) return `${(ms * 1000).toFixed(1)} µs`;
  return ms < 1000 ? `${ms.toFixed(2)} ms` : `${(ms / 1000).toFixed(3)} s`;
}
