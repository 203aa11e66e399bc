import { test } from 'vitest';
import { driver } from '@emudev/edu-emu';
import { providerConformance } from '@emudev/testkit';

for (const { title, run } of providerConformance({ driver })) test(title, run);
