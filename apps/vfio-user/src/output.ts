/** Text and data on stdout, no faster than whoever reads it. */
import { once } from 'node:events';

export async function print(text: string | Uint8Array): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** Indented, one object. Numbers above 2^53 are strings of hexadecimal digits. */
export async function printJson(value: unknown): Promise<void> {
  await print(`${JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item), 2)}\n`);
}
