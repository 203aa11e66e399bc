import { test } from 'vitest';
import { EchoPort } from '@emudev/net-echo';
import { portConformance } from '@emudev/testkit';

for (const { title, run } of portConformance((name) => new EchoPort(name))) test(title, run);
