/** The length rules that nearly every structure shares (vfio-user specification, "argsz"). */
import { getU32, getU53, getU64 } from './bytes.ts';
import { badPeer, badRequest } from './errors.ts';
import { MAX_ARGSZ_BYTES } from './limits.ts';

/** A request may be longer than its structure (clients pad to argsz), never shorter. */
export function needRequest(payload: Uint8Array, fixedBytes: number, name: string): void {
  if (payload.length < fixedBytes) throw badRequest('ERR_VFU_PAYLOAD', `${name}: payload of ${payload.length} bytes, needs ${fixedBytes}`);
}

/** argsz is the client's room for the reply, not the length of the request: at least the structure. */
export function needArgsz(payload: Uint8Array, fixedBytes: number, name: string): number {
  needRequest(payload, fixedBytes, name);
  const argsz = getU32(payload, 0);
  if (argsz < fixedBytes) throw badRequest('ERR_VFU_ARGSZ', `${name}: argsz ${argsz}, needs ${fixedBytes}`);
  return argsz;
}

/** As needArgsz, where argsz decides how much the reply may hold. */
export function needBoundedArgsz(payload: Uint8Array, fixedBytes: number, name: string): number {
  const argsz = needArgsz(payload, fixedBytes, name);
  if (argsz > MAX_ARGSZ_BYTES) throw badRequest('ERR_VFU_ARGSZ', `${name}: argsz ${argsz} is above ${MAX_ARGSZ_BYTES}`);
  return argsz;
}

/** A reply that does not hold what it must ends the connection: there is nobody to tell. */
export function needReply(payload: Uint8Array, bytes: number, name: string): void {
  if (payload.length < bytes) throw badPeer('ERR_VFU_PAYLOAD', `${name} reply: payload of ${payload.length} bytes, needs ${bytes}`);
}

/** As getU53, in a reply: a value of 2^53 or more ends the connection. */
export function getReplyU53(payload: Uint8Array, at: number, name: string): number {
  if (getU32(payload, at + 4) >= 0x20_0000) throw badPeer('ERR_VFU_RANGE', `${name} reply: 0x${getU64(payload, at).toString(16)} is not below 2^53`);
  return getU53(payload, at);
}
