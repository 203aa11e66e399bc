/** A process that serves one register, and one that reads it again and again (register-server.ts, register-client.ts). */
import { fileURLToPath } from 'node:url';
import { Child } from './processes.ts';

export const START_MS = 20_000;

/** Microseconds. */
export interface RoundTrips {
  readonly p50: number;
  readonly p99: number;
  readonly mean: number;
}

/** Resolves when it is ready; `cpu` as `Child` takes it. */
async function start(program: 'register-server' | 'register-client', socket: string, kind: string, cpu: number | undefined): Promise<Child> {
  const child = new Child(program, [process.execPath, fileURLToPath(new URL(`./${program}.ts`, import.meta.url)), socket, kind], cpu);
  try {
    await child.line((line) => line === 'ready', START_MS);
    return child;
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

export const startServer = (socket: string, kind: string, cpu?: number): Promise<Child> => start('register-server', socket, kind, cpu);
export const startClient = (socket: string, kind: string, cpu?: number): Promise<Child> => start('register-client', socket, kind, cpu);

/** What reading for so long has taken. */
export async function roundTrips(client: Child, ms: number): Promise<RoundTrips> {
  client.say(String(ms));
  return JSON.parse(await client.line((line) => line.startsWith('{'), START_MS + ms)) as RoundTrips;
}
