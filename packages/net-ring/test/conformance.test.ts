import { describe, test } from 'vitest';
import { RingPort } from '@emudev/net-ring';
import { portConformance } from '@emudev/testkit';

describe.each([{ args: {} }, { args: { queues: 4, size: 8192 } }])('$args', ({ args }) => {
  for (const { title, run } of portConformance((name) => new RingPort(name, args), { loopback: true })) test(title, run);
});
