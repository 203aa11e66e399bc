/** A consumer: node consumer.process.ts SOCKET; opens port 0, sends without end, and says so once. To be killed. */
import { VfioUserClient } from '@emudev/vfio-user-client';

const client = await VfioUserClient.connect(process.argv[2]!);
for (const [register, value] of [[3, 3], [2, 7], [4, 0x0b]] as const) await client.regions.write8(0, register, value);
for (let n = 0; ; n++) {
  for (let i = 0; i < 16; i++) await client.regions.write8(0, 0, 0x55);
  while (((await client.regions.read8(0, 5)) & 0x20) === 0);
  if (n === 20) console.log('sending');
}
