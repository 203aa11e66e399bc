/** The tool as a process: the README's transcripts on a tree like sysfs and a served device, and what it does when things are wrong. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VfioUserSource } from '@emudev/bus-pci';
import { FakeKernel } from '../../../packages/bus-pci/test/fake-kernel.ts';

const TOOL = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const EXAMPLES = fileURLToPath(new URL('../../example-devices/dist/cli.js', import.meta.url));
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

const folder = mkdtempSync(join(tmpdir(), 'pci-tool-'));
const kernel = new FakeKernel();
let server: ChildProcess;

beforeAll(async () => {
  kernel.pci('0000:00:1d.0', { driver: 'vfio-pci', group: 4 });
  kernel.file('dev/vfio/4');
  kernel.pci('0000:00:1e.0', { driver: 'e1000e', group: 5 });
  kernel.parent('mtty', { 'mtty-1': { available: 24, name: 'Single port serial' }, 'mtty-2': { available: 12, name: 'Dual port serial' } });
  kernel.parent('ccw', { 'ccw-1': { api: 'vfio-ccw', available: 1 } });
  kernel.mdev('ccw', 'ccw-1', UUID);
  server = spawn(process.execPath, [EXAMPLES, 'gpio', 'gpio.sock'], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  while (!said.includes('gpio listens')) said += String((await once(server.stdout!, 'data'))[0]);
});
afterAll(async () => {
  server.kill('SIGTERM');
  await once(server, 'exit');
  kernel[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function tool(line: string, root = kernel.root): Promise<Result> {
  const child = spawn(process.execPath, [TOOL, '--sysfs-root', join(root, 'sys'), '--dev-root', join(root, 'dev'), ...line.split(' ')], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data: Buffer) => { stdout += data.toString(); });
  child.stderr.on('data', (data: Buffer) => { stderr += data.toString(); });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

describe('the README', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const steps = [...readme.matchAll(/```console\n([\s\S]*?)```/g)].flatMap((block) => block[1]!.split(/^\$ emudev-pci /m).slice(1));
  test.each(steps.map((step) => [step.split('\n', 1)[0]!, step]))('%s', async (line, step) => {
    const { stdout, stderr } = await tool(line);
    expect(stdout + stderr).toBe(step.slice(line.length + 1));
  });
});

test('list --json: every device with its ids, and why it cannot be used', async () => {
  const { stdout, code } = await tool('list --json --vfio-user gpio.sock --vfio-user absent.sock');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([
    { address: '0000:00:1d.0', kind: 'pci', ids: { vendor: 0x8086, device: 0x10d3, subsystemVendor: 0x8086, subsystemDevice: 0xa01f, classCode: 0x020000 }, usable: true, why: null, kernelDriver: 'vfio-pci', iommuGroup: 4 },
    { address: '0000:00:1e.0', usable: false, why: 'not-vfio', kernelDriver: 'e1000e' },
    { address: UUID, kind: 'mdev', ids: null, usable: false, why: 'api-mismatch', mdev: { parent: 'ccw', type: 'ccw-1' } },
    { address: 'vfio-user:absent.sock', ids: null, usable: false, why: 'no-socket' },
    { address: 'vfio-user:gpio.sock', kind: 'vfio-user', ids: { vendor: 0x494f, device: 0x0dc8 }, usable: true, why: null, kernelDriver: null },
  ]);
});

test('allow and block lists', async () => {
  const addresses = async (line: string): Promise<unknown[]> => (JSON.parse((await tool(line)).stdout) as { address: string }[]).map(({ address }) => address);
  expect(await addresses('list --json -a 00:1e.0 -a ./gpio.sock')).toEqual(['0000:00:1e.0', 'vfio-user:./gpio.sock']);
  expect(await addresses(`list --json -b 00:1e.0 -b ${UUID}`)).toEqual(['0000:00:1d.0']);
  expect(await tool('list -a 00:1e.0 -a 00:1f.7')).toMatchObject({ code: 3, stderr: 'emudev-pci: there is no 0000:00:1f.7\n', stdout: expect.stringContaining('0000:00:1e.0') as string });
  expect(await tool('list -a 00:1e.0 -b 00:1f.7')).toMatchObject({ code: 2, stdout: '' });
});

test('a server with another client is in use, and is not waited for long; without opening nobody asks it', async () => {
  const source = new VfioUserSource();
  await using _client = await source.open({ kind: 'vfio-user', path: join(folder, 'gpio.sock') });
  const { stdout } = await tool('list --json -a ./gpio.sock');
  expect(JSON.parse(stdout)).toMatchObject([{ usable: false, why: 'in-use', ids: null }]);
  expect(JSON.parse((await tool('list --json --no-open -a ./gpio.sock')).stdout)).toMatchObject([{ usable: true, ids: null }]);
});

test('a server that answers slowly is given up in the end, with the reason; the others are not kept waiting', async () => {
  // Between the two of them: every answer comes late, but not too late for itself.
  const slow = createServer((client) => {
    const device = connect(join(folder, 'gpio.sock'));
    client.on('data', (data) => { device.write(data); }).on('close', () => { device.destroy(); }).on('error', () => {});
    device.on('data', (data) => { setTimeout(() => { client.write(data); }, 700); }).on('error', () => {});
  });
  await new Promise<void>((resolve) => { slow.listen(join(folder, 'slow.sock'), resolve); });
  try {
    const begun = performance.now();
    const { stdout, code } = await tool('list --json --timeout 1000 -a ./slow.sock -a 00:1e.0');
    expect([code, JSON.parse(stdout)]).toMatchObject([0, [{ usable: false, why: 'not-vfio' }, { usable: false, why: 'silent', detail: expect.stringContaining('2000 ms') as string }]]);
    expect(performance.now() - begun).toBeGreaterThan(1900);
    expect(JSON.parse((await tool('show ./slow.sock --json --timeout 1000')).stdout)).toMatchObject({ why: 'silent', device: null });
  } finally {
    await new Promise((resolve) => { slow.close(resolve); });
  }
});

test('show: what sysfs says of a function that a kernel driver has, and all of a device that can be opened', async () => {
  expect((await tool('show 00:1e.0')).stdout).toMatch(/^state {9}not-vfio: [\s\S]*^driver {8}e1000e\nIOMMU group {3}5\nresources {5}bar0 {8}128K {2}memory$/m);
  expect(JSON.parse((await tool('show 00:1e.0 --json')).stdout)).toMatchObject({ device: null, resources: [{ index: 0, kind: 'memory', start: '0xfeb80000', sizeBytes: '0x20000' }, {}, {}, {}, {}] });
  const { device } = JSON.parse((await tool('show ./gpio.sock --json')).stdout) as { device: unknown };
  expect(device).toMatchObject({ resettable: true, iovaRanges: null, dmaPageBytes: 4096, regions: [{ name: 'bar2', sizeBytes: 256, areas: [] }, { name: 'config', sizeBytes: 256 }] });
  expect(await tool('show ./absent.sock')).toMatchObject({ code: 3, stdout: '' });
});

test('a machine with nothing: empty lists, and hints', async () => {
  const nothing = join(folder, 'nothing');
  expect(await tool('list', nothing)).toEqual({ code: 0, stderr: '', stdout: expect.stringMatching(/^No devices\..*--vfio-user/) as string });
  expect(await tool('list --json', nothing)).toEqual({ code: 0, stderr: '', stdout: '[]\n' });
  expect(await tool('mdev types', nothing)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^No device/) as string });
  expect(await tool('mdev types --json', nothing)).toMatchObject({ code: 0, stdout: '[]\n' });
});

test('what is wrong is said in one line, without a stack, with an exit code', async () => {
  const wrong: readonly (readonly [line: string, code: number])[] = [
    ['show nonsense', 2], ['show', 2], ['frobnicate', 2], ['list --frob', 2], ['list --timeout 0', 2], ['show 00:1e.0 --timeout soon', 2], ['bind 00:1e.0 --driver e1000e', 2], [`unbind ${UUID}`, 2], ['mdev create mtty mtty-1 no-uuid', 2], ['mdev remove no-uuid', 2],
    ['bind 07:00.0', 3], ['show 07:00.0', 3], ['mdev types nobody', 3], ['mdev create nobody mtty-1', 3], [`mdev remove ${UUID.replace('8', '9')}`, 3],
    ['bind 00:1e.0', 1], ['unbind 00:1e.0', 1],
  ];
  for (const [line, code] of wrong) {
    const result = await tool(line);
    expect(result, line).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(/^emudev-pci: [^\n]+\n(\(--help shows what there is\)\n)?$/) as string });
    expect(result.stderr, line).not.toMatch(/ at .*\.js/);
  }
});

test('files that say nonsense spoil nothing for other devices', async () => {
  using broken = new FakeKernel();
  broken.pci('0000:00:01.0', { driver: 'vfio-pci', group: 4, files: { vendor: 'Int\u001b[31mel\n' } });
  broken.pci('0000:00:02.0', { driver: 'e1000e', group: 5 });
  broken.pci('0000:00:03.0', { files: { resource: 'x'.repeat(5000) } });
  broken.parent('mtty', { 'mtty-1': { available: 24 }, 'mtty-2': { available: 2 } });
  broken.file('sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/available_instances', 'many\n');
  expect((await tool('mdev types', broken.root)).stdout).toMatch(/mtty-1 [^\n]* cannot be used: [^\n]*\n[^\n]*mtty-2 +vfio-pci +2 /);
  const { stdout, code } = await tool('list', broken.root);
  expect(code).toBe(0);
  expect(stdout.split('\n').map((line) => line.slice(0, 12))).toEqual(['ADDRESS     ', '0000:00:01.0', '0000:00:02.0', '0000:00:03.0', '']);
  expect(stdout).not.toContain('\u001b');
  expect(stdout.match(/unreadable/g)).toHaveLength(2);
});
