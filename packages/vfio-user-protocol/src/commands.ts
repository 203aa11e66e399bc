/** What every command is called, who sends it, and how much and how many descriptors its request carries. */
import * as c from './constants.ts';

/** What the specification says of one command's request. */
export interface CommandRule {
  readonly name: string;
  readonly from: 'client' | 'server';
  /** Fixed part of the request's payload. */
  readonly requestBytes: number;
  /** Descriptors that mean something in a request; any others are closed on sight. */
  readonly requestFds: 'none' | 'one' | 'count';
}

const rule = (name: string, from: CommandRule['from'], requestBytes: number, requestFds: CommandRule['requestFds'] = 'none'): CommandRule => ({ name, from, requestBytes, requestFds });

/** By command number; undefined for 14 (removed) and everything unknown. */
export const COMMANDS: ReadonlyMap<number, CommandRule> = new Map([
  [c.VFIO_USER_VERSION, rule('VERSION', 'client', 4)],
  [c.VFIO_USER_DMA_MAP, rule('DMA_MAP', 'client', 32, 'one')],
  // SPDK's client attaches the region's descriptor to the unmap as well.
  [c.VFIO_USER_DMA_UNMAP, rule('DMA_UNMAP', 'client', 24)],
  [c.VFIO_USER_DEVICE_GET_INFO, rule('DEVICE_GET_INFO', 'client', 16)],
  [c.VFIO_USER_DEVICE_GET_REGION_INFO, rule('DEVICE_GET_REGION_INFO', 'client', 32)],
  [c.VFIO_USER_DEVICE_GET_REGION_IO_FDS, rule('DEVICE_GET_REGION_IO_FDS', 'client', 16)],
  [c.VFIO_USER_DEVICE_GET_IRQ_INFO, rule('DEVICE_GET_IRQ_INFO', 'client', 16)],
  [c.VFIO_USER_DEVICE_SET_IRQS, rule('DEVICE_SET_IRQS', 'client', 20, 'count')],
  [c.VFIO_USER_REGION_READ, rule('REGION_READ', 'client', 16)],
  [c.VFIO_USER_REGION_WRITE, rule('REGION_WRITE', 'client', 16)],
  [c.VFIO_USER_DMA_READ, rule('DMA_READ', 'server', 16)],
  [c.VFIO_USER_DMA_WRITE, rule('DMA_WRITE', 'server', 16)],
  // The one command without a payload; one is tolerated.
  [c.VFIO_USER_DEVICE_RESET, rule('DEVICE_RESET', 'client', 0)],
  [c.VFIO_USER_REGION_WRITE_MULTI, rule('REGION_WRITE_MULTI', 'client', 8)],
  [c.VFIO_USER_DEVICE_FEATURE, rule('DEVICE_FEATURE', 'client', 8)],
  [c.VFIO_USER_MIG_DATA_READ, rule('MIG_DATA_READ', 'client', 8)],
  [c.VFIO_USER_MIG_DATA_WRITE, rule('MIG_DATA_WRITE', 'client', 8)],
]);

/** For logs and errors: the name, or the number of an unknown command. */
export function commandName(command: number): string {
  return COMMANDS.get(command)?.name ?? `command ${command}`;
}
