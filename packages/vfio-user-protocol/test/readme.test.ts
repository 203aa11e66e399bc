import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/** Runs the nth example of the README. */
async function example(n: number): Promise<unknown> {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)][n]![1]!;
  const file = new URL(`./readme-example-${n}.gen.ts`, import.meta.url);
  writeFileSync(file, code.replace("'@emudev/vfio-user-protocol'", "'../src/index.ts'"));
  try {
    return await import(file.href);
  } finally {
    rmSync(file);
  }
}

test('the first example answers a read and refuses one that is too long', async () => {
  const { replies } = (await example(0)) as { replies: Uint8Array[] };
  expect(replies.map((reply) => Buffer.from(reply).toString('hex'))).toEqual([
    '00000900240000000100000000000000' + '0000000000000000' + '07000000' + '04000000' + '86808918',
    '01000900100000002100000016000000',
  ]);
});

test('the second says what it says in its comment', async () => {
  const { line } = (await example(1)) as { line: string };
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  expect(readme).toContain(`// ${line}\n`);
});
