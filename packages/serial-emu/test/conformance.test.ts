import { test } from 'vitest';
import { driver } from '@emudev/serial-emu';
import { providerConformance } from '@emudev/testkit';

for (const { title, run } of providerConformance({ driver })) test(title, run);
