import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { driver } from '../src/index.ts';
import { Card } from './card.ts';

it('the example of the README runs and prints what it says', async () => {
  await using card = await Card.plug();
  await card.port.close();
  const context = { findEmudev: (name: string) => (name === 'emu_iavf0' ? card.provider.device : undefined) };
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const body = code.replace("import { driver } from '@emudev/net-iavf-be';", '');
  expect(body).not.toBe(code);
  const log = vi.fn();
  await (new Function('driver', 'context', 'console', `return (async () => {${body}})();`) as (...args: unknown[]) => Promise<void>)(driver, context, { log });
  expect(log.mock.calls).toEqual([['net_iavf_be', 0n, 0n]]);
  expect(card.link).toMatchObject({ up: false }); // closed: no carrier
});
