import { expect, it } from 'vitest';
import { FakeDevice, serve } from '../fixture.ts';
import { fields, u32 } from '../raw-client.ts';
import { EINVAL, GET_INFO, info, RESET } from '../requests.ts';
import { conformance } from './suite.ts';

conformance('device-info', {
  I1: { title: 'a payload of 8 bytes: EINVAL', exchanges: [{ send: [GET_INFO, new Uint8Array(8)], reply: EINVAL }] },
  I2: { title: 'argsz 8: EINVAL', exchanges: [{ send: [GET_INFO, fields(8, 0, 0, 0)], reply: EINVAL }] },
  I3: { title: 'argsz 32: 16 bytes, PCI and RESET, 9 regions, 5 interrupt indexes', exchanges: [{ send: [GET_INFO, fields(32, 0, 0, 0)], reply: fields(16, 3, 9, 5) }] },
});

it('a device that cannot be reset says so, and refuses', async () => {
  await using s = await serve({ device: Object.assign(new FakeDevice(), { resettable: false }) });
  expect(u32((await s.client.request(GET_INFO, info)).payload, 4)).toBe(2);
  expect(await s.client.errno(RESET, new Uint8Array(0))).toBe(EINVAL);
  expect(s.device.take()).not.toContain('reset');
});
