/** Which exchanges are shown. */
import { COMMANDS, commandName, irqIndexName, regionName, VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_DEVICE_GET_REGION_IO_FDS, VFIO_USER_DEVICE_SET_IRQS } from '@emudev/vfio-user-protocol';
import { errnoOf, headerOf, latencyMs, type Exchange } from './exchanges.ts';
import { accessOf } from './format.ts';
import type { Side } from './observed.ts';

/** More than have names. */
const NAMED_INDEXES = 16;

export interface FilterOptions {
  /** Command names with * and ?; one that begins with ! takes away. */
  readonly commands?: readonly string[];
  /** Region names ('BAR0', 'CONFIG') or numbers. */
  readonly regions?: readonly string[];
  /** Interrupt names ('MSIX') or numbers. */
  readonly irqs?: readonly string[];
  readonly errorsOnly?: boolean;
  /** Exchanges that took longer, milliseconds. */
  readonly slowerThanMs?: number;
  /** Commands sent by this side. */
  readonly from?: Side;
  readonly session?: number;
}

/** True for exchanges that all options let through. @throws RangeError for a name that stands for nothing */
export function makeFilter(options: FilterOptions): (exchange: Exchange) => boolean {
  for (const glob of options.commands ?? []) checkCommand(glob.replace(/^!/, ''));
  for (const name of options.regions ?? []) checkIndex('region', name.toUpperCase(), regionName);
  for (const name of options.irqs ?? []) checkIndex('interrupt', name.toUpperCase().replace('-', ''), irqIndexName);
  const wanted = (options.commands ?? []).filter((glob) => !glob.startsWith('!')).map(globPattern);
  const unwanted = (options.commands ?? []).filter((glob) => glob.startsWith('!')).map((glob) => globPattern(glob.slice(1)));
  const regions = options.regions?.map((name) => name.toUpperCase());
  const irqs = options.irqs?.map((name) => name.toUpperCase().replace('-', ''));
  return (exchange) => {
    const header = headerOf(exchange);
    const name = header === undefined ? 'raw' : commandName(header.command);
    if (wanted.length > 0 && !wanted.some((pattern) => pattern.test(name))) return false;
    if (unwanted.some((pattern) => pattern.test(name))) return false;
    if (options.session !== undefined && exchange.session !== options.session) return false;
    if (options.from !== undefined && exchange.from !== options.from) return false;
    if (options.errorsOnly === true && errnoOf(exchange) === 0 && exchange.raw === undefined) return false;
    if (options.slowerThanMs !== undefined && !((latencyMs(exchange) ?? -1) > options.slowerThanMs)) return false;
    if (regions === undefined && irqs === undefined) return true;
    const region = regionOf(exchange);
    const irq = irqOf(exchange);
    return (regions !== undefined && region !== undefined && (regions.includes(regionName(region)) || regions.includes(String(region))))
      || (irqs !== undefined && irq !== undefined && (irqs.includes(irqIndexName(irq)) || irqs.includes(String(irq))));
  };
}

/** A filter that lets nothing through, ever, is a mistake. */
function checkCommand(glob: string): void {
  const pattern = globPattern(glob);
  const names = [...COMMANDS.values()].map(({ name }) => name);
  if (names.some((name) => pattern.test(name)) || /^(command \d+|raw)$/i.test(glob)) return;
  throw new RangeError(`no command is called "${glob}"; there are ${names.join(', ')}`);
}

function checkIndex(kind: string, text: string, nameOf: (index: number) => string): void {
  if (/^\d{1,10}$/.test(text)) return;
  const names = Array.from({ length: NAMED_INDEXES }, (_, index) => nameOf(index)).filter((name) => !/^\d/.test(name));
  if (!names.includes(text)) throw new RangeError(`no ${kind} is called "${text}"; there are ${names.join(', ')}, and numbers`);
}

function globPattern(glob: string): RegExp {
  const pattern = glob.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${pattern}$`, 'i');
}

function regionOf({ request, reply }: Exchange): number | undefined {
  const half = request ?? reply;
  if (half === undefined) return undefined;
  const { command } = half.header;
  if (command === VFIO_USER_DEVICE_GET_REGION_INFO || command === VFIO_USER_DEVICE_GET_REGION_IO_FDS) return indexAt8(half.payload);
  return accessOf(half)?.region;
}

function irqOf({ request, reply }: Exchange): number | undefined {
  const half = request ?? reply;
  if (half === undefined) return undefined;
  const { command } = half.header;
  return command === VFIO_USER_DEVICE_GET_IRQ_INFO || command === VFIO_USER_DEVICE_SET_IRQS ? indexAt8(half.payload) : undefined;
}

function indexAt8(payload: Uint8Array): number | undefined {
  return payload.length < 12 ? undefined : new DataView(payload.buffer, payload.byteOffset).getUint32(8, true);
}
