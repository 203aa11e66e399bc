/** Devices that come and go in a running process, over its control socket, while the frames of another card go on. */
import { fork, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { VfioUserClient } from '@emudev/vfio-user-client';
import { ControlClient, type Answer } from '@emudev/iavf-device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { asked } from './support/control.ts';
import { DeviceProcess } from './support/device-process.ts';
import type { Steady } from './support/steady-driver.ts';

const PATIENCE_MS = 20_000;
const BAR0 = 0;
const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'emudev-plug-'));
const at = (name: string): string => join(folder, name);

let device: DeviceProcess;
let control: ControlClient;
let witness: ChildProcess;
let idle: number;

const ask = (command: string, fields: object = {}): Promise<Answer> => control.ask({ command, ...fields });

const done = (command: string, fields: object = {}): Promise<unknown> => asked(control, command, fields);

async function names(): Promise<string[]> {
  return ((await done('list')) as { devices: { name: string }[] }).devices.map(({ name }) => name);
}

/** There is no event for what another process has released: looks until it is so. */
async function descriptors(wanted: number): Promise<number> {
  const deadline = performance.now() + PATIENCE_MS;
  while (device.descriptors() !== wanted && performance.now() < deadline) await sleep(5);
  return device.descriptors();
}

async function report(of: ChildProcess): Promise<Steady> {
  const reply = once(of, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
  of.send('report');
  return (await reply)[0] as Steady;
}

async function steady(socket: string): Promise<ChildProcess> {
  const driver = fork(fileURLToPath(new URL('./support/steady-driver.ts', import.meta.url)), [socket], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  await once(driver, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
  return driver;
}

beforeAll(async () => {
  device = await DeviceProcess.start(['--vdev', `emu_iavf0,path=${at('witness')}`, '--vdev', 'net_iavf_be0,emu=emu_iavf0', '--forward', 'net_iavf_be0', '--control', at('ctl'), '--log-level', 'warn']);
  await device.says(/control socket: listens on/);
  witness = await steady(at('witness'));
  control = await ControlClient.connect(at('ctl'));
  await done('plug', { vdev: [`emu_edu9,path=${at('edu9')}`, `emu_iavf9,path=${at('vm9')}`, 'net_iavf_be9,emu=emu_iavf9'], forward: 'net_iavf_be9' });
  await done('unplug', { device: ['emu_edu9', 'emu_iavf9'], force: true });
  // What the first of each allocates for good: the count begins after it.
  await sleep(50);
  idle = device.descriptors();
  await report(witness);
});

afterAll(async () => {
  control?.[Symbol.dispose]();
  if (witness?.exitCode === null) witness.kill('SIGKILL');
  await device?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

afterEach(async () => {
  expect(await names()).toEqual(['emu_iavf0', 'net_iavf_be0']);
  expect(await descriptors(idle)).toBe(idle);
  const during = await report(witness);
  expect(during).toMatchObject({ wrong: 0, failures: [] });
  expect(during.echoed).toBeGreaterThan(0);
});

describe('a device', () => {
  test('is plugged in, restarted and unplugged while a client has it: the client stays over the restart and sees it go', async () => {
    expect(await done('plug', { vdev: `emu_edu0,path=${at('edu')}` })).toEqual({ plugged: [{ name: 'emu_edu0', path: at('edu') }] });
    const client = await VfioUserClient.connect(at('edu'));
    expect(await client.read32(BAR0, 0)).toBe(0x010000ed);
    await done('restart', { device: 'emu_edu0' });
    await client.write32(BAR0, 4, 0x12345678);
    expect(await client.read32(BAR0, 4)).toBe(~0x12345678 >>> 0);
    const { devices } = (await done('list')) as { devices: { name: string; state?: string; path?: string }[] };
    expect(devices.at(-1)).toMatchObject({ name: 'emu_edu0', driver: 'emu_edu', class: 'emudev', state: 'started', path: at('edu') });
    expect(await ask('unplug', { device: 'emu_edu0' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_BAD_STATE', message: expect.stringMatching(/emu_edu0 is plugged into a virtual machine/) as string } });
    expect(await client.read32(BAR0, 0)).toBe(0x010000ed);
    await done('unplug', { device: 'emu_edu0', force: true });
    await client.closed;
    expect(existsSync(at('edu'))).toBe(false);
    await expect(VfioUserClient.connect(at('edu'))).rejects.toThrow();
  });

  test('is reset under its client, which keeps its connection and finds power-on state', async () => {
    await done('plug', { vdev: `emu_edu0,path=${at('edu')}` });
    await done('reset', { device: 'emu_edu0' });
    {
      await using client = await VfioUserClient.connect(at('edu'));
      await client.write32(BAR0, 4, 0x12345678);
      await done('reset', { device: 'emu_edu0' });
      expect(await client.read32(BAR0, 4)).toBe(0xffff_ffff);
    }
    expect(await ask('reset', { device: 'net_iavf_be0' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_UNSUPPORTED' } });
    await done('unplug', { device: 'emu_edu0' });
  });

  test('comes and goes under one name again and again', async () => {
    for (let round = 0; round < 10; round++) {
      await done('plug', { vdev: `emu_edu0,path=${at('edu')}` });
      await using client = await VfioUserClient.connect(at('edu'));
      expect(await client.read32(BAR0, 0)).toBe(0x010000ed);
      await done('unplug', { device: 'emu_edu0', force: true });
    }
  });
});

describe('a card with its back end', () => {
  const card = { vdev: [`emu_iavf1,path=${at('vm1')}`, 'net_iavf_be1,emu=emu_iavf1'], forward: ['net_iavf_be1'] };

  test('carries the frames of a driver, and goes under it as a whole', async () => {
    for (let round = 0; round < 3; round++) {
      await done('plug', card);
      const driver = await steady(at('vm1'));
      const left = new Promise<void>((resolve) => driver.once('exit', () => { resolve(); }));
      while ((await report(driver)).echoed === 0) await sleep(5);
      expect(await ask('unplug', { device: 'emu_iavf1' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_BAD_STATE', message: expect.stringMatching(/emu_iavf1 is plugged into a virtual machine/) as string } });
      expect((await report(driver))).toMatchObject({ wrong: 0, failures: [] });
      await done('unplug', { device: 'emu_iavf1', force: true });
      expect(existsSync(at('vm1'))).toBe(false);
      driver.kill('SIGKILL');
      await left;
    }
  });

  test('its port is disconnected and connected again while the driver has it', async () => {
    await done('plug', card);
    const driver = await steady(at('vm1'));
    while ((await report(driver)).echoed === 0) await sleep(5);
    await done('disconnect', { pair: 'net_iavf_be1' });
    expect(await ask('disconnect', { pair: 'net_iavf_be1' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_NOENT' } });
    await done('connect', { pair: 'net_iavf_be1' });
    driver.kill('SIGKILL');
    await once(driver, 'exit');
    await done('unplug', { device: 'emu_iavf1', force: true });
  });

  test('stays while something uses it that is to stay', async () => {
    await done('plug', card);
    expect(await ask('unplug', { device: 'emu_iavf1' })).toMatchObject({ ok: false, error: { code: 'EMUDEV_BAD_STATE', message: expect.stringMatching(/emu_iavf1 is used by net_iavf_be1, the connection net_iavf_be1:/) as string } });
    expect((await names()).slice(2)).toEqual(['emu_iavf1', 'net_iavf_be1']);
    await done('unplug', { device: ['emu_iavf1', 'net_iavf_be1'] });
  });

  test('all or nothing: what cannot be completed leaves no device, no pair, no socket', async () => {
    for (const [fields, code] of [
      [{ ...card, vdev: [...card.vdev, 'net_echo1,ip=many'] }, 'EMUDEV_BAD_ARG'],
      [{ ...card, vdev: [...card.vdev, 'net_foo1'] }, 'EMUDEV_NODRIVER'],
      [{ ...card, forward: ['net_iavf_be1=net_tap7'] }, 'ERR_ETHDEV_CONFIG'],
      [{ ...card, forward: ['net_iavf_be1=net_iavf_be0'] }, 'ERR_ETHDEV_STATE'],
      [{ vdev: [`emu_iavf1,path=${at('witness')}`] }, 'ERR_USAGE'],
      [{ vdev: [`emu_edu1,path=${at('no/such/folder')}`] }, 'ENOENT'],
      [{ vdev: ['emu_edu1,fd=3'] }, 'ERR_USAGE'],
      [{ vdev: ['emu_edu1'] }, 'ERR_USAGE'],
      [{ vdev: [`emu_edu1,path=${at('edu')}`, `emu_edu1,path=${at('edu2')}`] }, 'EMUDEV_EXISTS'],
    ] as const) {
      expect(await ask('plug', fields)).toMatchObject({ ok: false, error: { code } });
      expect(await names()).toEqual(['emu_iavf0', 'net_iavf_be0']);
      for (const socket of ['vm1', 'edu', 'edu2']) expect(existsSync(at(socket))).toBe(false);
    }
  });
});

test('requests of several clients at once are carried out one after the other', async () => {
  const clients = await Promise.all([1, 2, 3, 4].map(() => ControlClient.connect(at('ctl'))));
  const answers = await Promise.all(clients.map((client) => client.ask({ command: 'plug', vdev: `emu_edu0,path=${at('edu')}` })));
  expect(answers.filter((answer) => answer.ok)).toHaveLength(1);
  for (const answer of answers) if (!answer.ok) expect(answer.error.code).toBe('EMUDEV_EXISTS');
  const gone = await Promise.all(clients.map((client) => client.ask({ command: 'unplug', device: 'emu_edu0' })));
  expect(gone.filter((answer) => answer.ok)).toHaveLength(1);
  for (const client of clients) client[Symbol.dispose]();
});

describe('iavf-device ctl', () => {
  const run = (...args: string[]): { status: number | null; stdout: string; stderr: string } => spawnSync(process.execPath, [CLI, 'ctl', ...args], { encoding: 'utf8' });

  test('does what it is told, in words or as JSON, and its exit code says how it went', () => {
    expect(run(at('ctl'), 'plug', `emu_edu0,path=${at('edu')}`)).toMatchObject({ status: 0, stdout: expect.stringContaining(`emu_edu0 listens on ${at('edu')}. Plug it in:\n  QEMU`) as string });
    expect(run(at('ctl'), 'list').stdout.split('\n').find((line) => line.startsWith('emu_edu0'))).toMatch(/^emu_edu0 +emudev +started +consumer absent, .*edu$/);
    expect(run(at('ctl'), 'attributes', 'emu_edu0')).toMatchObject({ status: 0, stdout: 'none\n' });
    expect(run(at('ctl'), 'attributes', 'emu_edu7')).toMatchObject({ status: 1, stderr: 'iavf-device ctl: there is no device emu_edu7; there are emu_iavf0, emu_edu0\n' });
    expect(run(at('ctl'), 'unplug', 'emu_iavf0')).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(/^iavf-device ctl: emu_iavf0 is plugged into .*\n$/) as string });
    expect(JSON.parse(run(at('ctl'), 'stats', 'net_iavf_be0', '--json').stdout)).toMatchObject({ ok: true, result: { ports: { net_iavf_be0: { ipackets: expect.any(Number) as number } } } });
    expect(run(at('ctl'), 'unplug', 'emu_edu0', '--json')).toMatchObject({ status: 0, stdout: '{"ok":true,"result":{}}\n' });
  });

  test.each<[string[], number, RegExp]>([
    [['frob'], 2, /unknown command 'frob'/],
    [['unplug'], 2, /missing required argument 'device'/],
    [['list', '--jsno'], 2, /unknown option '--jsno'/],
  ])('%j ends with %i', (args, status, message) => {
    const result = run(at('ctl'), ...args);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
  });

  test('says that nobody listens; --help needs no process', () => {
    expect(run(at('nobody'), 'list')).toMatchObject({ status: 3, stderr: expect.stringMatching(/no device process listens on .*nobody \(ENOENT\)/) as string });
    expect(run('--help')).toMatchObject({ status: 0, stdout: expect.stringMatching(/plug .*\n[\s\S]*Examples:/) as string });
  });
});

test('what comes and goes at run time is logged, what the command line names is not', async () => {
  await using other = await DeviceProcess.start(['--vdev', `emu_edu0,path=${at('edu')}`, '--control', at('ctl2')]);
  await other.says(/control socket/);
  using client = await ControlClient.connect(at('ctl2'));
  await client.ask({ command: 'plug', vdev: `emu_edu1,path=${at('edu1')}` });
  await client.ask({ command: 'unplug', device: 'emu_edu1' });
  expect((await other.stop()).code).toBe(0);
  expect(other.stderr.match(/"event":"\w+","device":"\w+"/g)).toEqual(['"event":"added","device":"emu_edu1"', '"event":"removed","device":"emu_edu1"']);
});

test('the control socket is its owner\'s only, and goes with the process', async () => {
  await using other = await DeviceProcess.start(['--control', at('ctl2')]);
  expect(statSync(at('ctl2')).mode & 0o777).toBe(0o600);
  // A second process must not take it over.
  expect(await DeviceProcess.run(['--control', at('ctl2')])).toMatchObject({ code: 2, stderr: expect.stringMatching(/EADDRINUSE|in use/) as string });
  expect((await other.stop()).code).toBe(0);
  expect(existsSync(at('ctl2'))).toBe(false);
});
