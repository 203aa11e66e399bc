/** docs/emudev-driver-line-by-line.md explains every line of this package: it must have every line of it. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
const lines = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');

test('the guide shows the device and its driver, whole and in order', () => {
  const shown = [...read('../../../docs/emudev-driver-line-by-line.md').matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!).join('\n');
  expect(lines(shown)).toEqual([...lines(read('../src/device.ts')), ...lines(read('../src/driver.ts'))]);
});

test('the guide shows what package.json says', () => {
  const shown = /```json\n([\s\S]*?)```/.exec(read('../../../docs/emudev-driver-line-by-line.md'))![1]!;
  expect(JSON.parse(`{${shown}}`)).toEqual({ emudev: (JSON.parse(read('../package.json')) as { emudev: unknown }).emudev });
});
