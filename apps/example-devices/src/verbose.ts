/** What `--verbose` says: events of the server, and every access to the device. */
import type { subscribe as Subscribe } from 'node:diagnostics_channel';
import type { PciDevice } from '@emudev/pci';
import type { ServerEvents } from '@emudev/vfio-user-server';

const MAX_BYTES_SHOWN = 16;
const REGION_NAMES = ['BAR0', 'BAR1', 'BAR2', 'BAR3', 'BAR4', 'BAR5', 'ROM', 'config', 'VGA'];

function hex(bytes: Uint8Array): string {
  const shown = Buffer.from(bytes.subarray(0, MAX_BYTES_SHOWN)).toString('hex').replaceAll(/(..)(?=.)/g, '$1 ');
  return bytes.length > MAX_BYTES_SHOWN ? `${shown} … (${bytes.length} bytes)` : shown;
}

/** Puts itself before the device's own `read` and `write`. */
export function sayAccesses(device: PciDevice): void {
  const read = device.read.bind(device);
  const write = device.write.bind(device);
  const where = (region: number, offset: number): string => `${device.name}: ${REGION_NAMES[region] ?? region}+0x${offset.toString(16)}`;
  device.read = async (region, offset, into) => {
    await read(region, offset, into);
    console.log(`${where(region, offset)} read  ${hex(into)}`);
  };
  device.write = (region, offset, from) => {
    console.log(`${where(region, offset)} write ${hex(from)}`);
    return write(region, offset, from);
  };
}

export function sayEvents(subscribe: typeof Subscribe): void {
  const on = <K extends keyof ServerEvents>(name: K, say: (event: ServerEvents[K]) => string): void => {
    subscribe(`emudev:vfio-user-server:${name}`, (message) => {
      const event = message as ServerEvents[K];
      console.log(`${event.device}: ${say(event)}`);
    });
  };
  const because = (error: unknown): string => (error === undefined ? '' : `: ${error instanceof Error ? error.message : String(error)}`);
  on('negotiated', ({ peer, minor }) => `a client has come (${peer}, protocol 0.${minor})`);
  on('request-error', ({ command, errno, error }) => `${command} refused with errno ${errno}${because(error)}`);
  on('disconnect', ({ reason, error }) => `the client has gone (${reason})${because(error)}`);
  on('fault', ({ what, error }) => `${what}${because(error)}`);
}
