/** Runs inside the guest: a recording of its three sample mediated devices, its e1000e and its NVMe controller, as a line of JSON. All is as before afterwards. */
import { release } from 'node:os';
import { KernelSource, MdevManager, Sysfs, type PciFunctionAddress } from '@emudev/bus-pci';
import { recordingSys, recordTree, type Recording } from '../recording.ts';
import { survey } from './survey.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa100';
const MDEVS = [['mtty', 'mtty-2'], ['mdpy', 'mdpy-vga'], ['mbochs', 'mbochs-medium']] as const;
const FUNCTIONS = [0x1d, 0x1e].map((device): PciFunctionAddress => ({ kind: 'pci', domain: 0, bus: 0, device, function: 0 }));

const manager = new MdevManager(new Sysfs());
const answers: Record<string, object> = {};
const source = new KernelSource({ sys: recordingSys('/dev', answers) });
for (const [i, [parent, type]] of MDEVS.entries()) {
  await manager.create(parent, type, `${UUID}${i + 1}`);
  await manager.waitReady(`${UUID}${i + 1}`, 10_000);
}
for (const address of FUNCTIONS) await source.bind(address);
await survey(source);
const recording: Recording = { kernel: release(), tree: recordTree('/sys'), answers };
for (const address of FUNCTIONS) await source.unbind(address);
for (const i of MDEVS.keys()) await manager.remove(`${UUID}${i + 1}`);
console.log(`@recording ${JSON.stringify(recording)}`);
