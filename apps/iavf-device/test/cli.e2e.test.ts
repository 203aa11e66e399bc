/** The program as its users meet it: what it prints, how it ends, what it leaves behind. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ControlClient } from '@emudev/iavf-device';
import { VfioUserClient } from '@emudev/vfio-user-client';
import { linux } from '@emudev/linux';
import { DeviceProcess } from './support/device-process.ts';

let folder: string;
beforeEach(() => { folder = mkdtempSync(join(tmpdir(), 'emudev-cli-')); });
afterEach(() => { rmSync(folder, { recursive: true, force: true }); });
const socket = (): string => join(folder, 'vm0.sock');

describe('a command line that cannot be carried out ends with 2 and one line that says why', () => {
  test.each<[string, () => string[], RegExp]>([
    ['nothing to do', () => [], /nothing to serve: give --socket PATH/],
    ['an unknown option', () => ['--sockt', 'x'], /unknown option '--sockt'.*Did you mean.*--socket/],
    ['a bad number', () => ['--socket', socket(), '--lcores', 'many'], /lcores.*whole number from 1 to 64/],
    ['an unknown key', () => ['--vdev', `emu_iavf0,path=${socket()},qeues=4`], /qeues.*queues/],
    ['a bad value', () => ['--vdev', `emu_iavf0,path=${socket()},queues=17`], /queues.*17/],
    ['a bad MAC address', () => ['--socket', socket(), '--mac', '52:54'], /mac.*52:54/],
    ['an unknown driver', () => ['--vdev', 'net_foo0'], /no driver for device net_foo0: install .*@emudev\/net-foo/],
    ['a device twice', () => ['--vdev', 'net_null0', '--vdev', 'net_null0'], /net_null0 already/],
    ['a back end without its device', () => ['--vdev', 'net_iavf_be0,emu=emu_iavf7'], /emu_iavf7/],
    ['a pair of a port that is not there', () => ['--socket', socket(), '--forward', 'net_iavf_be9'], /no port "net_iavf_be9"/],
    ['a socket for two cards', () => ['--socket', socket(), '--socket', socket()], /emu_iavf0 and emu_iavf1 cannot both be served at/],
    ['an empty path', () => ['--socket', ''], /--socket.*must not be empty/],
    ['a misspelt place', () => ['--vdev', 'emu_iavf0,paht=/x'], /emu_iavf0 needs one place.*path=SOCKET/],
    ['ports and nothing to do', () => ['--vdev', 'net_null0'], /nothing to do/],
    ['no place to be served at', () => ['--vdev', 'emu_iavf0'], /emu_iavf0 needs one place/],
    ['two far ends', () => ['--socket', socket(), '--tap', 'x', '--far', 'echo'], /different far ends/],
    ['a folder that is not there', () => ['--socket', join(folder, 'no/such/folder.sock')], /ENOENT|no such file/i],
    ['a path that is too long', () => ['--socket', join(folder, 'x'.repeat(120))], /ENAMETOOLONG|too long/i],
    ['a descriptor that is not open', () => ['--fd', '77'], /descriptor 77 is not open/],
    ['an interface name that is too long', () => ['--socket', socket(), '--tap', 'x'.repeat(40)], /x{16}/],
  ])('%s', async (_what, args, message) => {
    const { code, stderr, stdout } = await DeviceProcess.run(args());
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('a socket in use, by another device or by a file', async () => {
    const server = createServer().listen(socket());
    const busy = await DeviceProcess.run(['--socket', socket()]);
    server.close();
    expect(busy).toMatchObject({ code: 2 });
    expect(busy.stderr).toMatch(/EADDRINUSE|in use/);
    const file = join(folder, 'file');
    writeFileSync(file, 'precious');
    expect(await DeviceProcess.run(['--socket', file])).toMatchObject({ code: 2 });
    expect(existsSync(file)).toBe(true);
  });
});

describe('a device process', () => {
  test('prints lines to paste, serves, and ends with 0 on a signal, its socket removed', async () => {
    await using device = await DeviceProcess.start(['--socket', socket()]);
    expect(device.stdout).toContain(`qemu-system-x86_64 -object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem -m 1G -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"${socket()}"}}'`);
    expect(device.stdout).toMatch(/libvirt: .*<memoryBacking>/);
    expect(device.stdout).toContain(`cloud-hypervisor --memory size=1G,shared=on --user-device socket=${socket()}`);
    const client = await VfioUserClient.connect(socket());
    const identity = await client.read(7, 0, 4);
    expect(Buffer.from(identity).readUInt32LE(0)).toBe(0x18898086);
    await client[Symbol.asyncDispose]();
    expect(await device.stop('SIGINT')).toEqual({ code: 0, signal: null });
    expect(existsSync(socket())).toBe(false);
  });

  test('a stale socket file of a process that was killed is replaced', async () => {
    await using first = await DeviceProcess.start(['--socket', socket()]);
    await first.stop('SIGKILL');
    expect(existsSync(socket())).toBe(true);
    await using second = await DeviceProcess.start(['--socket', socket()]);
    expect((await second.stop()).code).toBe(0);
  });

  test('serves a listening socket it inherits', async () => {
    const path = socket();
    const listener = linux.unixListen(path, 4);
    await using device = await DeviceProcess.start(['--fd', '3'], { stdio: [listener] });
    linux.close(listener);
    const client = await VfioUserClient.connect(path);
    expect((await client.read(7, 0, 4)).length).toBe(4);
    await client[Symbol.asyncDispose]();
    expect((await device.stop()).code).toBe(0);
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s that arrives several times at once, as from a terminal, is one wish', async (signal) => {
    await using device = await DeviceProcess.start(['--socket', socket()]);
    for (let i = 0; i < 3; i++) process.kill(device.pid, signal);
    expect(await device.ended).toEqual({ code: 0, signal: null });
    expect(existsSync(socket())).toBe(false);
  });

  test('says so when a card can have no link', async () => {
    await using device = await DeviceProcess.start(['--vdev', `emu_iavf0,path=${socket()}`]);
    await device.says(/WARN: a card without link.*emu_iavf0/);
    expect((await device.stop()).code).toBe(0);
    await using linked = await DeviceProcess.start(['--socket', socket()]);
    expect((await linked.stop()).code).toBe(0);
    expect(linked.stderr).not.toContain('WARN');
  });

  test('says where the other end of a serial port is, at the start, when asked, and when it is plugged in', async () => {
    const control = join(folder, 'ctl');
    await using device = await DeviceProcess.start(['--vdev', `emu_serial0,path=${socket()},ports=2`, '--vdev', 'serial_be0,emu=emu_serial0', '--control', control]);
    await device.says(/control socket/);
    const [, terminal] = /^serial_be0 is at (\/dev\/pts\/\d+)$/m.exec(device.stdout)!;
    using client = await ControlClient.connect(control);
    expect(await client.ask({ command: 'list' })).toMatchObject({ result: { devices: [{ name: 'emu_serial0' }, { name: 'serial_be0', place: terminal }] } });
    expect(await client.ask({ command: 'plug', vdev: 'serial_be1,emu=emu_serial0,port=1,to=tcp,listen=0' })).toMatchObject({ result: { plugged: [{ name: 'serial_be1', place: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string }] } });
    expect((await device.stop()).code).toBe(0);
  });

  test('leaves standard output to a serial port that has it', async () => {
    await using device = await DeviceProcess.start(['--vdev', `emu_serial0,path=${socket()}`, '--vdev', 'serial_be0,emu=emu_serial0,to=stdio', '--control', join(folder, 'ctl')]);
    await device.says(/control socket/);
    expect((await device.stop()).code).toBe(0);
    expect(device.stdout).toBe('');
    expect(device.stderr).toContain(`emu_serial0 listens on ${socket()}. Plug it in:`);
  });

  test('statistics are a line for each port, and the extended ones with --log-level debug', async () => {
    await using device = await DeviceProcess.start(['--vdev', 'net_null0', '--vdev', 'net_null1', '--forward', 'net_null0=net_null1', '--socket', socket(), '--stats', '1', '--log-level', 'debug']);
    await device.says(/ statistics \{"port":"net_null0","ipackets":[1-9].*\n(.*\n)*.*extended statistics.*"port":"net_null0",.*"rx_q0_packets":[1-9]/);
    expect((await device.stop()).code).toBe(0);
  });

  test('the lines to paste hold wherever they are pasted', async () => {
    const relativePath = relative(process.cwd(), socket());
    await using device = await DeviceProcess.start(['--socket', relativePath]);
    expect(device.stdout).toContain(`"path":"${socket()}"`);
    expect((await device.stop()).code).toBe(0);
  });

  test('--help explains the options, the drivers, and the exit codes', async () => {
    const { code, stdout } = await DeviceProcess.run(['--help']);
    expect(code).toBe(0);
    expect(stdout).not.toMatch(/\[object|default: (none|false|undefined)/);
    for (const word of ['--socket', '--tap', '--forward', 'emu_iavf', 'net_tap', 'iface', 'Exit codes', 'Examples', 'path=SOCKET', 'ip=ADDRESS/BITS         the host\'s IPv4 address and network (default 10.0.2.2/24)']) expect(stdout).toContain(word);
  });

  test('logs are structured', async () => {
    await using device = await DeviceProcess.start(['--socket', socket(), '--log-format', 'json', '--log-level', 'info']);
    const client = await VfioUserClient.connect(socket());
    await device.says(/negotiated/);
    await client[Symbol.asyncDispose]();
    await device.says(/disconnect/);
    for (const line of device.stderr.trim().split('\n')) expect(JSON.parse(line)).toMatchObject({ msg: expect.any(String), level: expect.any(Number) });
  });
});
