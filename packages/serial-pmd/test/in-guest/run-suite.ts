/**
 * Runs inside a guest: node run-suite.ts ADDRESS|PARENT/TYPE PORTS INTERRUPT…; the suite on that device of the guest's kernel, or on a new mediated device each time one is opened (what a
 * sample device was told once it does not forget); then a line of JSON with what came of each case.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BusDevice, KernelSource, MdevManager, parseAddress, Sysfs } from '@emudev/bus-pci';
import { serialSuite, type SerialRig } from '../serial-suite.ts';

const [what, ports, ...interrupts] = process.argv.slice(2);
const [parent, type] = what!.split('/');
const source = new KernelSource();
const manager = new MdevManager(new Sysfs());
let made: string | undefined;

async function open(): Promise<BusDevice> {
  if (type === undefined) return BusDevice.open(source, parseAddress(what!));
  if (made !== undefined) await manager.remove(made);
  made = await manager.create(parent!, type);
  await manager.waitReady(made, 10_000);
  return BusDevice.open(source, { kind: 'mdev', uuid: made });
}

const outcomes: Record<string, string> = {};
const rig: SerialRig = { open, ports: Number(ports), interrupts: interrupts as SerialRig['interrupts'], longBytes: 300 };
for (const { id, run } of serialSuite(rig)) {
  const late = new AbortController();
  const timeout = delay(30_000, undefined, { signal: late.signal }).then(() => { throw new Error('not within 30 s'); });
  try {
    await Promise.race([run(), timeout]);
    outcomes[id] = 'ok';
  } catch (error) {
    outcomes[id] = error instanceof Error ? `${error.stack ?? error.message}${error.cause === undefined ? '' : `\n${String(error.cause)}`}` : String(error);
  } finally {
    late.abort();
    timeout.catch(() => undefined);
  }
}
console.log(`@outcomes ${JSON.stringify(outcomes)}`);
process.exit();
