/** What a back end does with a far end of the test's own. */
import { expect, test } from 'vitest';
import { type EmulatedPciVdev } from '@emudev/emudev';
import type { SerialCard } from '@emudev/serial-emu';
import { SerialBackEnd } from '../src/index.ts';
import type { FarEndEvents } from '../src/far-end.ts';
import { MAX_WAITING_BREAKS } from '../src/limits.ts';
import { rig } from './rig.ts';

test('breaks that nobody takes do not pile up, and bytes stay behind those before them', async () => {
  await using r = await rig();
  const { emudev } = r.bus.byName('emu_serial0')!.device as EmulatedPciVdev<SerialCard>;
  let events: FarEndEvents | undefined;
  const backEnd = await SerialBackEnd.open({
    name: 'serial_be0', emudev, port: 0, whenAbsent: 'discard', flow: 'rtscts',
    farEnd: (given) => {
      events = given;
      return { place: 'nowhere', write: (bytes) => bytes.length, setReading: () => {}, close: () => {} };
    },
  });
  const guest = r.ports[0]!.open();
  guest.setRts(false);
  for (let i = 0; i < 1000; i++) events!.break();
  events!.data(Uint8Array.of(0x78));
  guest.setRts(true);
  let breaks = 0;
  let byte = -1;
  for (let status = guest.lineStatus; (status & 1) !== 0; status = guest.lineStatus) {
    byte = guest.read(0);
    if ((status & 0x10) !== 0) breaks++;
  }
  expect([breaks, byte]).toEqual([MAX_WAITING_BREAKS, 0x78]);
  await backEnd.close();
});
