import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Window } from '@emudev/dma';
import { linux } from '@emudev/linux';
import { REGION_CONFIG } from '@emudev/pci';
import type { PciDevice } from '@emudev/pci';
import { VfioUserClient } from '@emudev/vfio-user-client';
import { VfioUserServer } from '@emudev/vfio-user-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasLspci, realLspci } from './real-lspci.ts';
import { shell, startServer, tool } from './processes.ts';

const DEVICES = ['gpio', 'conformance', 'lspci-fixture', 'irq-intx', 'irq-msi', 'irq-msix', 'null', 'shadow-ioeventfd'];

const directory = mkdtempSync(join(tmpdir(), 'vfio-user-'));
const servers: AsyncDisposable[] = [];

beforeAll(async () => {
  servers.push(await startServer('example-devices', DEVICES.flatMap((name) => [name, `${name}.sock`]), directory, /shadow-ioeventfd listens/));
  servers.push(await startServer('iavf-device', ['--socket', 'iavf.sock'], directory, /iavf\.sock/));
});

afterAll(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

describe('the README', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const transcripts = [...readme.matchAll(/```console\n([\s\S]*?)```/g)].map((block) => block[1]!);

  it.each(transcripts.map((text) => [text.split('\n', 1)[0]!, text]))('%s', async (_first, text) => {
    for (const step of text.split(/^\$ /m).slice(1)) {
      const [line, ...shown] = step.split('\n');
      const { stdout, stderr } = await shell(line!, directory);
      expectLike(stdout + stderr, shown.join('\n'));
    }
  });

  it('its library example prints what lspci would', async () => {
    const example = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
    const file = new URL('./readme-example.gen.ts', import.meta.url);
    writeFileSync(file, example);
    try {
      const { stdout, code } = await shell(`'${process.execPath}' '${file.pathname}'`, directory);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^00:00\.0 0200: 8086:1889\n\tControl: .*\n\tStatus: .*\n\tRegion 0: Memory at <unassigned> \(32-bit, non-prefetchable\) \[disabled\] \[size=64K\]\n00:00\.0 0200: 8086:1889\n00: 86 80 89 18 /);
    } finally {
      rmSync(file);
    }
  });
});

/** A line `…` stands for any lines. */
function expectLike(actual: string, shown: string): void {
  if (!shown.includes('…\n')) return expect(actual).toBe(shown);
  const [before, after] = shown.split('…\n');
  expect(actual.slice(0, before!.length)).toBe(before);
  expect(actual.slice(-after!.length)).toBe(after);
}

describe.runIf(hasLspci)('the dump of a device', () => {
  it.each([...DEVICES, 'iavf'])('%s: lspci -F makes of it what lspci --as-file prints', async (name) => {
    const lspci = realLspci();
    const dump = await tool(['lspci', `${name}.sock`, '-xxxx'], directory);
    expect(dump).toMatchObject({ code: 0, stderr: '' });
    const file = join(directory, `${name}.dump`);
    writeFileSync(file, dump.stdout);
    const ours = await tool(['lspci', `${name}.sock`, '-vv', '-n', '--as-file', '--like', lspci.version], directory);
    expect(ours.stdout).toBe(await lspci.show(file, '-vv', '-n'));
    expect(ours.stdout.length).toBeGreaterThan(100);
  });
});

describe('commands', () => {
  it('info --json has the keys that are promised', async () => {
    const { code, stdout } = await tool(['info', 'irq-msix.sock', '--json'], directory);
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as Record<string, unknown>;
    expect(Object.keys(report)).toEqual(['server', 'device', 'pci', 'regions', 'irqs', 'migration', 'dirtyLogging']);
    expect(report['irqs']).toContainEqual({ index: 2, name: 'MSI-X', count: 8, flags: 1 });
    expect(report['regions']).toContainEqual(expect.objectContaining({ index: 7, name: 'config', sizeBytes: 256, readable: true, file: null }));
    expect(report['migration']).toBeNull();
  });

  it('info shows the file of a region and descriptors for writes', async () => {
    expect(JSON.parse((await tool(['info', 'conformance.sock', '--json'], directory)).stdout)).toMatchObject({
      regions: [{ name: 'bar0' }, { name: 'bar1', areaCount: 2, file: { name: 'conformance-bar1', sizeBytes: 12_288 } }, { name: 'config' }],
      migration: { stopCopy: true, preCopy: true }, dirtyLogging: true,
    });
    expect((await tool(['info', 'shadow-ioeventfd.sock'], directory)).stdout).toContain('shadow 0x0 + 4');
  });

  it('what write wrote, posted or from a file, read and dump find again', async () => {
    const input = join(directory, 'in.bin');
    const output = join(directory, 'out.bin');
    const bytes = Uint8Array.from({ length: 12_288 }, (_, i) => (i * 7) & 0xff);
    writeFileSync(input, bytes);
    expect(await tool(['write', 'conformance.sock', 'bar1', '0', '--file', input], directory)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await tool(['write', 'conformance.sock', '1', '0x10', '0x1122334455667788', '--width', '8', '--posted'], directory)).toMatchObject({ code: 0 });
    expect(await tool(['dump', 'conformance.sock', 'bar1', '-o', output], directory)).toMatchObject({ code: 0, stdout: '' });
    bytes.set([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11], 0x10);
    expect(new Uint8Array(readFileSync(output))).toEqual(bytes);
    expect((await tool(['read', 'conformance.sock', 'bar1', '0x10', '--width', '8', '--json'], directory)).stdout)
      .toBe(`${JSON.stringify({ region: 1, offset: 16, bytes: '8877665544332211', value: '0x1122334455667788' }, undefined, 2)}\n`);
  });

  it('reset puts registers back', async () => {
    await tool(['write', 'gpio.sock', 'config', 'COMMAND', '1'], directory);
    await tool(['reset', 'gpio.sock'], directory);
    expect((await tool(['read', 'gpio.sock', 'config', 'COMMAND'], directory)).stdout).toBe('0x0000\n');
  });

  it('end quietly when nobody reads on', async () => {
    const { code, stdout, stderr } = await shell('vfio-user dump conformance.sock bar1 --width 4 | head -1', directory);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^00000000 {2}/);
  });
});

describe('what goes wrong', () => {
  it('output that cannot be written', async () => {
    const { code, stderr } = await shell('vfio-user read gpio.sock config 0 > /dev/full', directory);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^vfio-user: the output cannot be written: .*\n$/);
  });

  it.each([
    [['info', 'absent.sock'], 3, 'no server listens on absent.sock (ENOENT)'],
    [['info', '/dev/null'], 3, '/dev/null is not a socket'],
    [['info', '/tmp'], 3, '/tmp is not a socket'],
    [['info', `${'x'.repeat(200)}.sock`], 3, 'has at most 107 bytes, this one has 205'],
    [['info', 'gpio.sock', 'more'], 2, 'too many arguments'],
    [['read', 'gpio.sock', 'bar9', '0'], 2, 'region "bar9" is neither a name'],
    [['read', 'gpio.sock', '99', '0'], 2, 'there is no region 99: the device has 9'],
    [['read', 'gpio.sock', 'config', 'CAP_EXP'], 1, 'the device has no capability CAP_EXP'],
    [['read', 'gpio.sock', 'config', '0', '3', '--width', '2'], 2, '3 bytes cannot be read 2 at a time'],
    [['read', 'gpio.sock', 'config', 'soon'], 2, 'offset "soon" is neither a number (64, 0x40) nor a register'],
    [['read', 'gpio.sock', 'bar2', 'COMMAND'], 2, 'offset "COMMAND" is no number'],
    [['read', 'conformance.sock', 'bar0', '0'], 1, 'the server refused REGION_READ with EINVAL; a register may need another --width'],
    [['write', 'gpio.sock', 'bar2', '0'], 2, 'write takes exactly one of VALUE, --hex and --file'],
    [['write', 'gpio.sock', 'bar2', '0', '300', '--width', '1'], 2, 'value 300 does not fit into 1 byte'],
    [['write', 'gpio.sock', 'bar2', '0', '--hex', 'xyz'], 2, '--hex takes pairs'],
    [['write', 'gpio.sock', 'bar2', '0', '--file', 'absent.bin'], 2, 'absent.bin: no such file or directory'],
    [['write', 'gpio.sock', 'bar2', '0', '--file', '/tmp'], 2, '/tmp: illegal operation on a directory'],
    [['replay', '/tmp', 'gpio.sock'], 2, '/tmp: illegal operation on a directory'],
    [['trace', 'x.sock', './x.sock'], 2, 'the trace would talk to itself'],
    [['trace', 'x.sock', 'gpio.sock', '--filter', 'REGION_READS'], 2, 'no command is called "REGION_READS"; there are VERSION, '],
    [['trace', 'x.sock', 'gpio.sock', '--region', 'bar9'], 2, 'no region is called "BAR9"; there are BAR0, '],
    [['trace', 'x.sock', 'gpio.sock', '--irq', 'NMI'], 2, 'no interrupt is called "NMI"; there are INTX, '],
    [['trace', 'x.sock', 'gpio.sock', '--slower-than', '5'], 2, '--slower-than takes a time like'],
    [['trace', 'x.sock', 'gpio.sock', '--bytes', 'all'], 2, '--bytes takes a number'],
    [['trace', 'x.sock', 'gpio.sock', '--pcapng', '-', '-o', '-'], 2, 'the lines need a file'],
    [['dump', 'gpio.sock', 'bar2', '--offset', '1G'], 2, 'are not inside bar2'],
    [['lspci', 'gpio.sock', '--like', 'newest'], 2, '"newest" is no version of pciutils'],
    [['info', 'gpio.sock', '--timeout', 'never'], 2, '--timeout takes seconds'],
  ] as const)('%j ends with %d', async (args, code, sentence) => {
    const result = await tool(args, directory);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(/^vfio-user: .*\n(\(--help .*\)\n)?$/);
    expect(result.stderr).toContain(sentence);
  });

  it.each([[[]], [['info']], [['nonsense', 'x']], [['read', 'gpio.sock']]])('%j is no command', async (args) => {
    const { code, stderr } = await tool(args, directory);
    expect(code).toBe(2);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it.each([
    ['hangs up', (socket: Socket) => socket.end()],
    ['talks nonsense', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['says nothing', () => {}],
  ])('a server that %s', async (_what, behave) => {
    const server = createServer(behave);
    const path = join(directory, 'odd.sock');
    await new Promise<void>((resolve) => { server.listen(path, resolve); });
    const { code, stdout, stderr } = await tool(['info', path, '--timeout', '0.5'], directory);
    server.close();
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(/^vfio-user: .*\n$/);
  });

  it('a server that serves another client: said after a while, then given up, or interrupted', async () => {
    await using _other = await VfioUserClient.connect(join(directory, 'null.sock'));
    const waited = await tool(['info', 'null.sock', '--timeout', '2.5'], directory);
    expect(waited.code).toBe(3);
    expect(waited.stderr).toMatch(/^vfio-user: null\.sock: the server serves another client; waiting.*\nvfio-user: null\.sock: no answer within 2\.5 s.*\n$/);
    const interrupted = await tool(['info', 'null.sock', '--timeout', '60'], directory, (text, kill) => { if (text.includes('waiting')) kill('SIGINT'); });
    expect(interrupted.signal).toBe('SIGINT');
    expect(interrupted.stderr.split('\n')).toHaveLength(2);
  });
});

/** Regions of petabytes, a list of capabilities in a circle, a file with an escape sequence for a name. */
class HostileDevice implements PciDevice {
  readonly name = 'hostile';
  readonly fd = linux.memfdCreate('\x1b[31mred\n', { allowSealing: false });
  readonly regions = [
    { index: REGION_CONFIG, sizeBytes: 4096, readable: true, writable: true },
    { index: 0, sizeBytes: 2 ** 52, readable: true, writable: false, mmap: { areas: [{ offset: 0, sizeBytes: 4096 }], backing: { fd: this.fd, offset: 0 } } },
    { index: 2, sizeBytes: 64, readable: true, writable: true },
  ];
  readonly irqs = [{ index: 2, count: 2048, flags: 0xff }];
  readonly resettable = false;
  attach(): void {}
  detach(): void {}
  read(region: number, offset: number, into: Uint8Array): void {
    if (region === 2) throw Object.assign(new Error('no'), { errno: 1 });
    if (region !== REGION_CONFIG) return;
    const config = new Uint8Array(4096).fill(0xff);
    config.set([0x86, 0x80, 0, 0, 0, 0, 0x10, 0], 0);
    config[0x0e] = 0;
    config[0x34] = 0x40;
    config.set([0x10, 0x50, 0x02, 0x00], 0x40);
    config.set([0x05, 0x40], 0x50);
    new DataView(config.buffer).setUint32(0x100, 0x1000_0002, true);
    into.set(config.subarray(offset, offset + into.length));
  }
  write(): void {}
  async quiesce(): Promise<void> {}
  resume(): void {}
  memoryChanged(): void {}
  irqsChanged(): void {}
  reset(): void {}
}

describe('a hostile device', () => {
  const path = join(directory, 'hostile.sock');
  const device = new HostileDevice();
  const server = new VfioUserServer(device, { window: Window.open() });
  beforeAll(async () => {
    linux.ftruncate(device.fd, 4096);
    await server.listen(path);
  });
  afterAll(async () => {
    await server.close();
    linux.close(device.fd);
  });

  it.each([['info'], ['info', '--json'], ['lspci', '-vvv'], ['lspci', '-vvv', '--vpd'], ['lspci', '-xxxx'], ['dump', 'config']])('%s ends, with harmless output', async (command, ...rest) => {
    const { code, stdout, stderr } = await tool([command, path, ...rest], directory);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^[\t\n -~…]+$/);
    expect(stdout.length).toBeLessThan(1 << 20);
  });

  it('does not fill a terminal', async () => {
    expect(await tool(['dump', path, 'bar0'], directory)).toMatchObject({ code: 2, stdout: '', stderr: 'vfio-user: bar0 has 4P bytes: say how much with --length, or where to with -o FILE\n' });
    expect((await tool(['dump', path, 'bar0', '--offset', '4503599627366400', '--length', '4K'], directory)).code).toBe(0);
  });

  it('its refusals end with 1', async () => {
    const dumped = await tool(['dump', path, 'bar2'], directory);
    expect(dumped).toMatchObject({ code: 1, stdout: '' });
    expect(dumped.stderr).toMatch(/^vfio-user: bar2 at 0x0: .*--width 4\n$/);
    expect(await tool(['reset', path], directory)).toMatchObject({ code: 1, stderr: 'vfio-user: the device cannot be reset: its server does not say VFIO_DEVICE_FLAGS_RESET\n' });
  });
});

/** Vital product data behind the address and data registers of its capability at 0x40; the answer takes two questions. */
class VpdDevice extends HostileDevice {
  override readonly regions = [{ index: REGION_CONFIG, sizeBytes: 256, readable: true, writable: true }];
  readonly #config = new Uint8Array(256);
  #polls = 0;
  constructor() {
    super();
    this.#config[6] = 0x10;
    this.#config[0x34] = 0x40;
    this.#config[0x40] = 0x03;
  }
  override read(_region: number, offset: number, into: Uint8Array): void {
    if (offset === 0x42 && this.#polls++ === 1) {
      const vpd = [0x82, 5, 0, ...Buffer.from('A car'), 0x90, 5, 0, ...Buffer.from('SN'), 2, ...Buffer.from('42'), 0x78, 0xff, 0xff, 0xff];
      const address = this.#config[0x42]! | (this.#config[0x43]! << 8);
      this.#config.set(vpd.slice(address, address + 4), 0x44);
      this.#config[0x43] = this.#config[0x43]! | 0x80;
    }
    into.set(this.#config.subarray(offset, offset + into.length));
  }
  override write(_region = 0, offset = 0, from: Uint8Array = new Uint8Array(0)): void {
    this.#polls = 0;
    this.#config.set(from, offset);
  }
}

it('lspci --vpd reads the vital product data through its registers, and without it leaves them alone', async () => {
  const path = join(directory, 'vpd.sock');
  const device = new VpdDevice();
  const server = new VfioUserServer(device, { window: Window.open() });
  await server.listen(path);
  try {
    expect((await tool(['lspci', path, '-vv'], directory)).stdout).toContain('Vital Product Data\n\t\tNot readable\n');
    expect((await tool(['lspci', path, '-vv', '--vpd'], directory)).stdout).toMatch(/Vital Product Data\n\t\tProduct Name: A car\n\t\tRead-only fields:\n\t\t\t\[SN\] Serial number: 42\n\t\tEnd\n\n$/);
  } finally {
    await server.close();
    linux.close(device.fd);
  }
});
