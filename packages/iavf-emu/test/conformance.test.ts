import { describe, test } from 'vitest';
import { driver } from '@emudev/iavf-emu';
import { providerConformance } from '@emudev/testkit';

describe.each(['', 'queues=16,doorbell=trap'])('%s', (args) => {
  for (const { title, run } of providerConformance({ driver, args })) test(title, run);
});
