/** What a device says of itself, as far as it answers in time. */
import { BusDevice, BusError, type PciAddress, type PciIds, type PciTransport } from '@emudev/bus-pci';
import { Option } from 'commander';
import { usage } from './exit.ts';
import type { Devices } from './sources.ts';

export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** `8086:1889`. */
export const formatIds = ({ vendor, device }: PciIds): string => `${hex(vendor, 4)}:${hex(device, 4)}`;

/** The device's ids, or why it could not be asked. */
export interface Identity {
  readonly ids?: PciIds;
  readonly unusable?: { readonly reason: string; readonly detail: string };
}

const TIMEOUT_MS = 2000;
const MAX_TIMEOUT_MS = 600_000;

/** Of the commands that ask devices. */
export function timeoutOption(): Option {
  return new Option('--timeout <ms>', 'for one answer of a device, or one file of the kernel; all of a device\'s take twice that at most').default(TIMEOUT_MS).argParser((text) => {
    const ms = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0;
    if (ms < 1 || ms > MAX_TIMEOUT_MS) throw usage(`--timeout takes 1 to ${MAX_TIMEOUT_MS} milliseconds, not ${text}`);
    return ms;
  });
}

/** What `ask` says of the device, which is opened for a moment; or why it cannot be asked. The kernel's own calls are not bounded: nothing ends them. */
export async function asked<T extends object>(bus: Devices, address: PciAddress, timeoutMs: number, ask: (device: BusDevice, transport: PciTransport) => T | Promise<T>): Promise<T | Pick<Identity, 'unusable'>> {
  const limitMs = 2 * timeoutMs;
  const over = new AbortController();
  const timer = setTimeout(() => { over.abort(); }, limitMs);
  try {
    const transport = await bus.open(address, over.signal);
    // Ends whatever it is being asked.
    over.signal.addEventListener('abort', () => void transport.close());
    await using device = await BusDevice.from(transport);
    return await ask(device, transport);
  } catch (error) {
    if (over.signal.aborted) return { unusable: { reason: 'silent', detail: `it has not said what it is within ${limitMs} ms` } };
    return { unusable: obstacleOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** The ids in its configuration space. */
export function identify(bus: Devices, address: PciAddress, timeoutMs: number): Promise<Identity> {
  return asked(bus, address, timeoutMs, ({ ids }) => ({ ids }));
}

/** Why a device cannot be opened, or does not answer. Throws what says nothing of the device. */
function obstacleOf(error: unknown): { readonly reason: string; readonly detail: string } {
  if (!(error instanceof BusError)) throw error;
  return { reason: error.code === 'ERR_BUS_BUSY' ? 'in-use' : 'cannot-be-opened', detail: error.message };
}
