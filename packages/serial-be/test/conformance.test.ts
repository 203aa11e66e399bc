/** A back end that touches neither memory nor vectors: what is left of the suite for it is its seat, its hooks and what it leaves behind. */
import { test } from 'vitest';
import { attribute } from '@emudev/emudev';
import { SerialBackEnd } from '@emudev/serial-be';
import { ATTR_PORTS, farEndAttr, SERIAL_CONTRACT, serialPort } from '@emudev/serial-emu/contract';
import { backendConformance, type FakeEmudevSpec } from '@emudev/testkit';

function family(): FakeEmudevSpec {
  let place = '';
  return {
    devType: SERIAL_CONTRACT.devType, contractVersion: SERIAL_CONTRACT.version,
    attributes: [attribute(ATTR_PORTS, { get: () => 1 }), attribute(farEndAttr(0), { get: () => place, set: (value) => { place = value; } })],
    channels: { [serialPort(0).name]: () => {} },
  };
}

const nowhere = { place: 'nowhere', write: (bytes: Uint8Array): number => bytes.length, setReading: (): void => {}, close: (): void => {} };

for (const { title, run } of backendConformance({
  family,
  open: (emudev) => SerialBackEnd.open({ name: 'serial_be0', emudev, port: 0, whenAbsent: 'discard', flow: 'rtscts', farEnd: () => nowhere }),
})) test(title, run);
