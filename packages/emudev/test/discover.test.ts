import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { discoverDrivers } from '../src/discover.ts';
import { VdevBus } from '../src/vdev-bus.ts';

let root: string;
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'emudev-discover-')); });
afterEach(() => { rmSync(root, { recursive: true }); });

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function driverPackage(folder: string, driver: string, options: { summary?: string; exports?: unknown; source?: string } = {}): void {
  write(`${folder}/package.json`, JSON.stringify({ name: folder.split('/').slice(-1)[0], type: 'module', exports: options.exports ?? { '.': { types: './x.d.ts', import: './main.js' } }, emudev: { driver, class: 'port' } }));
  write(`${folder}/main.js`, options.source ?? `
    export const driver = { name: '${driver}', class: 'port', summary: '${options.summary ?? driver}', args: {},
      probe: (name) => Promise.resolve({ name, close: () => Promise.resolve() }) };`);
}

describe('discovery', () => {
  it('finds drivers in node_modules and scopes upwards, and in a pnpm workspace though nothing depends on them', () => {
    driverPackage('node_modules/net-plain', 'net_plain');
    driverPackage('node_modules/@acme/net-scoped', 'net_scoped');
    driverPackage('packages/net-new', 'net_new');
    driverPackage('apps/thing', 'net_thing');
    write('pnpm-workspace.yaml', '');
    write('node_modules/other/package.json', '{"name":"other"}');
    write('node_modules/broken/package.json', '{');
    write('node_modules/odd/package.json', 'null');
    write('packages/app/src/x', '');
    expect(discoverDrivers([join(root, 'packages/app/src')]).list().map((entry) => entry.driver)).toEqual(['net_new', 'net_plain', 'net_scoped', 'net_thing']);
  });

  it('takes the nearer of two packages with one driver, and one package once however it is reached', async () => {
    driverPackage('node_modules/far', 'net_x', { summary: 'far' });
    driverPackage('app/node_modules/near', 'net_x', { summary: 'near' });
    driverPackage('packages/net-y', 'net_y');
    mkdirSync(join(root, 'node_modules/@s'));
    symlinkSync(join(root, 'packages/net-y'), join(root, 'node_modules/@s/net-y'));
    write('pnpm-workspace.yaml', '');
    const catalog = discoverDrivers([join(root, 'app')]);
    expect(catalog.list()).toHaveLength(2);
    expect((await catalog.load('net_x')).summary).toBe('near');
  });

  it('imports a driver only when a device needs it', async () => {
    driverPackage('node_modules/net-a', 'net_a');
    driverPackage('node_modules/net-bomb', 'net_bomb', { source: 'throw new Error("imported")' });
    const bus = new VdevBus({ catalog: discoverDrivers([root]) });
    const probed = await bus.probe('net_a0');
    expect(probed.driver.name).toBe('net_a');
    await expect(bus.probe('net_bomb0')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER', message: expect.stringContaining('is it built?): imported') as string });
    expect(await bus.help()).toMatch(/net_a {2}net_a\n {2}net_bomb {2}\(cannot be loaded/);
  });

  it.each([
    ['exports as a string', './main.js'],
    ['nested conditions', { '.': { node: { import: './main.js' }, default: './missing.js' } }],
    ['conditions without a dot', { import: './main.js' }],
  ])('understands %s', async (_what, exports) => {
    driverPackage('node_modules/net-a', 'net_a', { exports });
    expect((await discoverDrivers([root]).load('net_a')).name).toBe('net_a');
  });

  it('says what is wrong with a package that does not keep its promise', async () => {
    driverPackage('node_modules/net-a', 'net_a', { source: 'export const driver = { name: "net_b" };' });
    await expect(discoverDrivers([root]).load('net_a')).rejects.toThrow(/net-a has no `driver` export with name 'net_a'/);
  });

  it('a driver that is not there names the package to install and the nearest that is', async () => {
    driverPackage('node_modules/net-tap', 'net_tap');
    await expect(discoverDrivers([root]).load('net_tpa')).rejects.toThrow(/@emudev\/net-tpa .*did you mean 'net_tap'\?/);
  });

  it('finds the drivers of this workspace', () => {
    const names = discoverDrivers([fileURLToPath(new URL('.', import.meta.url))]).list().map((entry) => entry.driver);
    expect(names).toEqual(expect.arrayContaining(['emu_iavf', 'net_iavf_be', 'net_null']));
  });

  it('a package that is installed while the bus is in use is found, by its aliases, too', async () => {
    driverPackage('node_modules/net-old', 'net_old');
    const bus = new VdevBus({ catalog: discoverDrivers([root]) });
    await expect(bus.probe('net_new0')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER' });
    driverPackage('node_modules/net-new', 'net_new');
    write('node_modules/net-new/package.json', JSON.stringify({ name: 'net-new', type: 'module', exports: './main.js', emudev: { driver: 'net_new', class: 'port', aliases: ['eth_new', 7] } }));
    expect((await bus.probe('net_new0')).driver.name).toBe('net_new');
    expect((await bus.probe('eth_new0')).driver.name).toBe('net_new');
  });
});
