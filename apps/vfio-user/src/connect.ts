/** From a path on the command line to a negotiated connection, with an explanation when there is none. */
import { statSync } from 'node:fs';
import { VfioUserClient, ClientError } from '@emudev/vfio-user-client';
import type { Command } from 'commander';
import { CommandError, EXIT_CONNECT, usage } from './exit.ts';
import { printable } from './printable.ts';

const DEFAULT_TIMEOUT_S = 5;
/** A server that serves somebody else leaves us in its backlog: after this time we say so. */
const BUSY_NOTICE_MS = 2000;

export interface ConnectionOptions {
  readonly timeout: number;
}

/** `--timeout`, the same for every command that talks to a server. */
export function withConnection(command: Command): Command {
  return command.option('--timeout <seconds>', 'how long to wait for each answer', parseSeconds, DEFAULT_TIMEOUT_S);
}

export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= 86_400)) throw usage(`--timeout takes seconds, not "${text}"`);
  return seconds;
}

/** Runs `use` with a connection that is closed behind it. Everything that fails before the negotiation is over exits with 3. */
export async function withClient<T>(path: string, options: ConnectionOptions, use: (client: VfioUserClient) => Promise<T>): Promise<T> {
  await using client = await connect(path, options.timeout);
  return await use(client);
}

async function connect(path: string, timeoutS: number): Promise<VfioUserClient> {
  const notice = setTimeout(() => {
    process.stderr.write(`vfio-user: ${printable(path)}: the server serves another client; waiting for it to leave\n`);
  }, BUSY_NOTICE_MS);
  try {
    return await VfioUserClient.connect(path, { timeoutMs: timeoutS * 1000 });
  } catch (error) {
    throw new CommandError(EXIT_CONNECT, whyNot(path, timeoutS, error), { cause: error });
  } finally {
    clearTimeout(notice);
  }
}

function whyNot(path: string, timeoutS: number, error: unknown): string {
  if (!(error instanceof ClientError)) return `cannot connect to ${path}: ${error instanceof Error ? error.message : String(error)}`;
  switch (error.code) {
    case 'ERR_VFU_CLIENT_CONNECT':
      return whyUnreachable(path, error.errno) ?? error.message;
    case 'ERR_VFU_CLIENT_TIMEOUT':
      return `${path}: no answer within ${timeoutS} s; the server serves another client or has stopped`;
    case 'ERR_VFU_CLIENT_CLOSED':
      return `${path}: the server hung up during the negotiation`;
    case 'ERR_VFU_CLIENT_REFUSED':
      return `${path}: the server refuses the connection: ${error.message}`;
    case 'ERR_VFU_CLIENT_BAD_SERVER':
      return `${path}: this is no vfio-user server: ${error.message}`;
    default:
      return `${path}: ${error.message}`;
  }
}

/** Why connect(2) to `path` failed, for people; undefined where its number says nothing they could act on. */
export function whyUnreachable(path: string, errno: number): string | undefined {
  switch (errno) {
    case 2: return `no server listens on ${path} (ENOENT)`;
    case 11: return `${path}: the server serves another client, and too many wait already (EAGAIN)`;
    case 13: return `${path} may not be opened by this user (EACCES)`;
    case 22: return 'a socket path is not empty and has no NUL (EINVAL)';
    case 36: return `the path of a socket has at most 107 bytes, this one has ${Buffer.byteLength(path)}: use a shorter one, or a relative one`;
    case 111: return isSocket(path) ? `no server listens on ${path}, which a dead one left behind (ECONNREFUSED)` : `${path} is not a socket`;
    default: return undefined;
  }
}

/** True also where nobody can tell. */
function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return true;
  }
}
