import { describe, test } from 'vitest';
import { NullPort } from '@emudev/net-null';
import { portConformance } from '@emudev/testkit';

describe.each([{ args: {} }, { args: { queues: 3, copy: true } }, { args: { 'no-rx': true } }])('$args', ({ args }) => {
  for (const { title, run } of portConformance((name) => new NullPort(name, args))) test(title, run);
});
