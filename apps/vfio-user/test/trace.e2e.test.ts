import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { linux } from '@emudev/linux';
import { VfioUserClient } from '@emudev/vfio-user-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { shell, tool } from './processes.ts';
import { temporaryFolder, until } from './wire.ts';

const TOOL = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const EXAMPLES = fileURLToPath(new URL('../../example-devices/dist/cli.js', import.meta.url));

let folder: ReturnType<typeof temporaryFolder>;
let children: ChildProcess[];
beforeEach(() => {
  folder = temporaryFolder();
  children = [];
});
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  folder[Symbol.dispose]();
});

function start(program: string, ...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [program, ...args], { cwd: folder.path, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.resume();
  children.push(child);
  return child;
}

async function device(name: string, socket: string): Promise<ChildProcess> {
  const child = start(EXAMPLES, name, socket);
  await until(() => existsSync(join(folder.path, socket)), `${socket} is served`, 30_000);
  return child;
}

async function trace(...args: string[]): Promise<ChildProcess & { text(): string }> {
  const child = start(TOOL, 'trace', 't.sock', 'd.sock', ...args);
  let text = '';
  child.stderr!.on('data', (data: Buffer) => { text += data.toString(); });
  await until(() => text.includes('clients that connect'), 'the proxy listens', 30_000);
  return Object.assign(child, { text: () => text });
}

async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
  const closed = once(child, 'close');
  child.kill(signal);
  const [code] = (await closed) as [number | null];
  return code;
}

const at = (name: string): string => join(folder.path, name);
const openFds = (child: ChildProcess): number => readdirSync(`/proc/${child.pid}/fd`).length;
const client = (): Promise<VfioUserClient> => VfioUserClient.connect(at('t.sock'));

describe('trace and replay as processes', () => {
  it('a session is shown, captured, dissected, and replayed', async () => {
    await device('gpio', 'd.sock');
    const tracer = await trace('-o', 'lines', '--pcapng', 'x.pcapng', '--summary');
    expect(statSync(at('t.sock')).mode & 0o777).toBe(0o600);
    {
      await using c = await client();
      await c.regions.read(7, 0, 4);
      await c.regions.read(2, 0, 4);
      await c.regions.write(7, 4, Uint8Array.of(2, 0));
      await c.regions.read(2, 0x1000, 4).catch(() => undefined);
      const ram = linux.memfdCreate('ram', { allowSealing: true });
      linux.ftruncate(ram, 1 << 20);
      await c.dma.map({ iova: 0x10000n, sizeBytes: 1 << 20, readable: true, writable: true, fd: ram });
      linux.close(ram);
    }
    await until(() => readFileSync(at('lines'), 'utf8').includes('hung up'), 'the end of the session');
    expect(await end(tracer)).toBe(0);
    expect(existsSync(at('t.sock'))).toBe(false);

    const lines = readFileSync(at('lines'), 'utf8');
    expect(lines).toMatch(/^ +\d+\.\d{6} #1 {2}REGION_READ\(CONFIG VENDOR_ID\.\.DEVICE_ID \+0x0, 4\) = 0x0dc8494f <\d+\.\d+ (µs|ms)>$/m);
    expect(lines).toMatch(/REGION_WRITE\(CONFIG COMMAND \+0x4, 2, 0x0002 \{MEMORY\}\) = 2 </);
    expect(lines).toMatch(/REGION_READ\(BAR2 \+0x1000, 4\) = -1 EINVAL/);
    expect(lines).toMatch(/DMA_MAP\(flags=READ\|WRITE.*, offset=0x0, address=0x10000, size=0x100000, fd=memfd:ram 1 MiB\) = 0 </);
    expect(tracer.text()).toMatch(/^REGION_READ +3 +1 /m);

    const dissected = await shell('tshark -X lua_script:"$(vfio-user wireshark --path)" -r x.pcapng -Y "vfio_user.command_name == \\"REGION_READ\\" && vfio_user.type == 1" -T fields -e vfio_user.data -e vfio_user.errno -e vfio_user.response_to 2>/dev/null', folder.path);
    expect(dissected.stdout.split('\n').slice(0, 3).map((line) => line.split('\t').map((field, i) => (i === 2 ? /^\d+$/.test(field) : field)))).toEqual([['4f49c80d', '', true], [expect.stringMatching(/^[0-9a-f]{8}$/), '', true], ['', '22', true]]);

    const again = await tool(['replay', 'x.pcapng', 'd.sock'], folder.path);
    expect(again).toMatchObject({ code: 0, stdout: expect.stringMatching(/replies compared, all equal\n$/) as string });
    const other = await device('null', 'e.sock');
    const different = await tool(['replay', 'x.pcapng', 'e.sock'], folder.path);
    expect(different.code).toBe(1);
    expect(different.stdout).toMatch(/REGION_READ\(offset=0x0, region=CONFIG, count=4\):\n {2}- data=0x0dc8494f\n {2}\+ data=0x/);
    await end(other);
    expect(await tool(['replay', 'x.pcapng', 'e.sock'], folder.path)).toMatchObject({ code: 3 });
    expect(await tool(['replay', 'lines', 'd.sock'], folder.path)).toMatchObject({ code: 2, stderr: expect.stringContaining('this is no pcapng file') as string });
    expect(await tool(['replay', 'nothing', 'd.sock'], folder.path)).toMatchObject({ code: 2 });
  });

  it('whoever is killed in the middle, the proxy serves on and keeps nothing open', async () => {
    let server = await device('gpio', 'd.sock');
    const tracer = await trace('-o', '/dev/null', '--pcapng', '/dev/null');
    const idle = openFds(tracer);
    const busy = `
      import { VfioUserClient } from '@emudev/vfio-user-client';
      const c = await VfioUserClient.connect(process.argv[1]);
      const { linux } = await import('@emudev/linux');
      const ram = linux.memfdCreate('ram', { allowSealing: true });
      linux.ftruncate(ram, 1 << 20);
      for (let i = 0n; ; i++) {
        await c.dma.map({ iova: i << 20n, sizeBytes: 1 << 20, readable: true, writable: true, fd: ram });
        await c.dma.unmap(i << 20n, 1 << 20);
        if (i === 20n) console.log('busy');
      }`;
    for (const victim of ['client', 'server'] as const) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', busy, at('t.sock')], { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'ignore'] });
      children.push(child);
      await once(child.stdout, 'data');
      expect(openFds(tracer)).toBeGreaterThan(idle);
      await end(victim === 'client' ? child : server, 'SIGKILL');
      await until(() => openFds(tracer) === idle, 'everything of the session is closed');
      if (victim === 'client') continue;
      // The client, too, learns that its server is gone.
      if (child.exitCode === null) await once(child, 'close');
      expect(child.exitCode).not.toBeNull();
      server = await device('gpio', 'd.sock');
    }
    await until(() => { try { linux.close(linux.unixConnect(at('d.sock'))); return true; } catch { return false; } }, 'the new server');
    {
      await using c = await client();
      expect(await c.regions.read(7, 0, 2)).toEqual(Uint8Array.of(0x4f, 0x49));
    }
    await until(() => openFds(tracer) === idle, 'everything of the session is closed');
    expect(await end(tracer, 'SIGINT')).toBe(0);
  });

  it('a capture goes to a pipe, JSON lines to another; a full disk is said so and stops no traffic', async () => {
    await device('gpio', 'd.sock');
    const json = await trace('--json', '--filter', 'REGION_*', '-o', 'json', '--pcapng', '/dev/full');
    {
      await using c = await client();
      await c.regions.read(7, 0, 2);
      await until(() => json.text().includes('ENOSPC'), 'the complaint');
      await c.regions.read(7, 2, 2);
    }
    await until(() => readFileSync(at('json'), 'utf8').split('\n').length > 4, 'the lines');
    expect(await end(json)).toBe(1);
    const entries = readFileSync(at('json'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>).filter((entry) => 'command' in entry);
    expect(entries).toMatchObject([{ command: 'REGION_READ', request: { offset: '0x0<VENDOR_ID>', region: 'CONFIG' }, reply: { data: '0x494f' }, errno: 0 }, { request: { offset: '0x2<DEVICE_ID>' } }]);
  });

  it.each([
    [['trace', 't.sock', 'd.sock', '--pcapng', '-'], 2, 'the lines need a file'],
    [['trace', 't.sock', 'd.sock', '--absolute', '--delta'], 2, 'exclude each other'],
    [['trace', 't.sock', 'd.sock', '--slower-than', '5'], 2, 'a time like 500us'],
    [['trace', 't.sock', 'd.sock', '--dictionary', 'missing.json'], 2, 'missing.json: no such file'],
    [['trace', 'no/such/folder/t.sock', 'd.sock'], 2, 'ENOENT'],
    [['replay', '/dev/null', 'd.sock'], 2, 'holds no message'],
    [['replay', '/dev/null', 'd.sock', '--ignore', 'X'], 2, '--ignore: COMMAND'],
  ])('%j ends with %i and a sentence', async (args, code, sentence) => {
    const result = await tool(args, folder.path);
    expect(result.stderr).toContain(sentence);
    expect(result.stderr.trimEnd().split('\n').length).toBeLessThan(3);
    expect(result.code).toBe(code);
  });

  it('the dissector is where wireshark says', async () => {
    const { stdout } = await tool(['wireshark', '--path'], folder.path);
    expect(readFileSync(stdout.trim(), 'utf8')).toContain('Proto("vfio_user"');
    expect((await tool(['wireshark'], folder.path)).stdout).toContain('tshark -X lua_script:');
  });
});
