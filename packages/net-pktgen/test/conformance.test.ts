import { test } from 'vitest';
import { parseArgs } from '@emudev/emudev';
import { PktgenPort, driver } from '@emudev/net-pktgen';
import { portConformance } from '@emudev/testkit';

for (const { title, run } of portConformance((name) => new PktgenPort(name, parseArgs(driver.args, [])))) test(title, run);
