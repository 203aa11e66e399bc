import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';

test('the example of the README answers a read and refuses one that is too long', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const file = new URL('./readme-example.gen.ts', import.meta.url);
  writeFileSync(file, code.replace("'@emudev/vfio-user-protocol'", "'../src/index.ts'"));
  try {
    const { replies } = (await import(file.href)) as { replies: Uint8Array[] };
    expect(replies.map((reply) => Buffer.from(reply).toString('hex'))).toEqual([
      '00000900240000000100000000000000' + '0000000000000000' + '07000000' + '04000000' + '86808918',
      '01000900100000002100000016000000',
    ]);
  } finally {
    rmSync(file);
  }
});
