/** Errors of the packages below as this package's own. */
import { DmaError } from '@emudev/dma';
import { ClientError } from '@emudev/vfio-user-client';
import type { ClientErrorCode } from '@emudev/vfio-user-client';
import { BusError } from './errors.ts';
import type { BusErrorCode } from './errors.ts';

const CODES: Readonly<Record<ClientErrorCode, BusErrorCode>> = {
  ERR_VFU_CLIENT_CONNECT: 'ERR_BUS_GONE',
  ERR_VFU_CLIENT_ARGUMENT: 'ERR_BUS_ARGUMENT',
  ERR_VFU_CLIENT_REFUSED: 'ERR_BUS_REFUSED',
  ERR_VFU_CLIENT_TIMEOUT: 'ERR_BUS_REFUSED',
  ERR_VFU_CLIENT_ABORTED: 'ERR_BUS_REFUSED',
  ERR_VFU_CLIENT_BUSY: 'ERR_BUS_REFUSED',
  ERR_VFU_CLIENT_SHORT: 'ERR_BUS_REFUSED',
  ERR_VFU_CLIENT_NOT_MAPPABLE: 'ERR_BUS_NOT_MAPPABLE',
  ERR_VFU_CLIENT_BAD_SERVER: 'ERR_BUS_GONE',
  ERR_VFU_CLIENT_LOST: 'ERR_BUS_GONE',
  ERR_VFU_CLIENT_OTHER_DEVICE: 'ERR_BUS_GONE',
  ERR_VFU_CLIENT_REPLAY: 'ERR_BUS_GONE',
  ERR_VFU_CLIENT_CLOSED: 'ERR_BUS_GONE',
};

/** A ClientError or DmaError as a BusError with the same errno, under `codes` where they say otherwise; whatever else it is unchanged. */
export function asBusError(error: unknown, codes: Readonly<Partial<Record<ClientErrorCode | 'dma', BusErrorCode>>> = {}): unknown {
  if (error instanceof ClientError) return new BusError(codes[error.code] ?? CODES[error.code], error.message, { errno: error.errno, cause: error });
  if (error instanceof DmaError) return new BusError(codes.dma ?? 'ERR_BUS_DMA', error.message, { errno: error.errno, cause: error });
  return error;
}
