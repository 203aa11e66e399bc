/** What a client of the control socket may say, and what it gets for it. */
import { existsSync, mkdtempSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseArguments } from '../src/arguments.ts';
import { ControlClient } from '../src/control/client.ts';
import { MAX_CLIENTS, MAX_REQUEST_BYTES } from '../src/control/limits.ts';
import { ControlServer } from '../src/control/server.ts';
import { Launcher } from '../src/launcher.ts';

const folder = mkdtempSync(join(tmpdir(), 'emudev-control-'));
const path = join(folder, 'ctl');
let launcher: Launcher;
let server: ControlServer;

beforeAll(async () => {
  launcher = await Launcher.start(parseArguments(['--control', path, '--vdev', 'net_null0', '--vdev', `emu_edu0,path=${join(folder, 'edu')}`]));
  server = await ControlServer.listen(path, launcher);
});
afterAll(async () => {
  await server?.close();
  await launcher?.close();
  expect(existsSync(path)).toBe(false);
  rmSync(folder, { recursive: true, force: true });
});

/** Sends bytes, says that this is all, and gives what comes back. */
async function exchange(bytes: string | Uint8Array): Promise<unknown[]> {
  const socket = connect(path);
  let received = '';
  socket.setEncoding('utf8').on('data', (data: string) => { received += data; });
  // What was refused unread ends with a reset, behind the answer.
  socket.on('error', () => {});
  socket.end(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return received.split('\n').filter((line) => line !== '').map((line): unknown => JSON.parse(line));
}

/** That a client has gone is seen at the other end when it is seen: asks until there is room. The test's deadline ends it. */
async function roomForOne(): Promise<void> {
  for (;;) {
    const [answer] = (await exchange('{"command":"list"}')) as [{ ok: boolean } | undefined];
    if (answer?.ok === true) return;
  }
}

const refusal = (code: string, message: RegExp): unknown => ({ ok: false, error: { code, message: expect.stringMatching(message) as string } });

test.each<[string, RegExp]>([
  ['nonsense', /this is no JSON/],
  ['{"command":"list"', /this is no JSON/],
  ['[]', /a request is a JSON object/],
  ['null', /a request is a JSON object/],
  ['7', /a request is a JSON object/],
  ['['.repeat(60_000), /this is no JSON/],
])('%.30s is no request', async (line, message) => {
  expect(await exchange(`${line}\n`)).toEqual([refusal('ERR_CONTROL_SYNTAX', message)]);
});

test('bytes that are no UTF-8 are no request', async () => {
  expect(await exchange(Uint8Array.of(0x22, 0xff, 0xfe, 0x22, 0x0a))).toEqual([refusal('ERR_CONTROL_SYNTAX', /no JSON/)]);
});

test.each<[object, string, RegExp]>([
  [{}, 'ERR_CONTROL_COMMAND', /a request has a "command"; there are help, drivers, list, plug/],
  [{ command: 'frob' }, 'ERR_CONTROL_COMMAND', /there is no command 'frob'/],
  [{ command: 'constructor' }, 'ERR_CONTROL_COMMAND', /there is no command 'constructor'/],
  [{ command: ['list'] }, 'ERR_CONTROL_COMMAND', /a request has a "command"/],
  [{ command: 'plug' }, 'ERR_CONTROL_FIELD', /plug needs the field 'vdev'/],
  [{ command: 'plug', vdev: 7 }, 'ERR_CONTROL_FIELD', /'vdev' must be a text, or an array/],
  [{ command: 'plug', vdev: Array.from({ length: 65 }, () => 'net_null1') }, 'ERR_CONTROL_FIELD', /at most 64/],
  [{ command: 'unplug', device: 'net_null0', force: 'yes' }, 'ERR_CONTROL_FIELD', /'force' must be true or false/],
  [{ command: 'list', device: 'x' }, 'ERR_CONTROL_FIELD', /list takes no field 'device'/],
  [{ command: 'unplug', device: 'net_null7' }, 'EMUDEV_NOENT', /there is no device net_null7; there are net_null0, emu_edu0/],
  [{ command: 'restart', device: 'net_null0' }, 'EMUDEV_UNSUPPORTED', /net_null0 is no emulated device; there are emu_edu0/],
  [{ command: 'get', device: 'emu_edu0', attribute: 'colour' }, 'EMUDEV_NO_ATTR', /colour/],
  [{ command: 'stats', port: 'emu_edu0' }, 'EMUDEV_NOENT', /there is no port emu_edu0; there are net_null0/],
  [{ command: 'plug', vdev: 'net_null1,sise=64' }, 'EMUDEV_BAD_ARG', /net_null1: unknown argument 'sise'; did you mean 'size'/],
  [{ command: 'connect', pair: 'net_null0=net_null3' }, 'ERR_ETHDEV_CONFIG', /no port "net_null3"/],
])('%j is refused with %s', async (request, code, message) => {
  expect(await exchange(`${JSON.stringify({ ...request, id: 5 })}\n`)).toEqual([{ id: 5, ...(refusal(code, message) as object) }]);
});

test('requests are answered in order, the last also without its newline; empty lines are nothing', async () => {
  const answers = await exchange('{"command":"plug","vdev":"net_null1","id":"a"}\n\n{"command":"list","id":"b"}\n{"command":"unplug","device":"net_null1","id":"c"}\n{"command":"unplug","device":"net_null1","id":"d"}');
  expect(answers).toMatchObject([{ id: 'a', ok: true }, { id: 'b', ok: true, result: { devices: [{ name: 'net_null0' }, { name: 'emu_edu0' }, { name: 'net_null1' }] } }, { id: 'c', ok: true }, { id: 'd', ok: false }]);
});

test('help lists every command with its fields', async () => {
  const [answer] = (await exchange('{"command":"help"}')) as [{ result: Record<string, { summary: string; fields: object }> }];
  expect(Object.keys(answer.result)).toEqual(expect.arrayContaining(['list', 'plug', 'unplug', 'restart', 'reset', 'attributes', 'get', 'set', 'self-test', 'stats']));
  expect(answer.result['unplug']!.fields).toMatchObject({ device: { kind: 'texts' }, force: { kind: 'flag', optional: true } });
});

describe('what a client can make the process hold is bounded', () => {
  test('a line without end is answered and the connection ended', async () => {
    expect(await exchange(`{"command":"${'x'.repeat(MAX_REQUEST_BYTES)}`)).toEqual([refusal('ERR_CONTROL_LINE', /at most 65536 bytes/)]);
    expect(await exchange(`{"command":"${'x'.repeat(MAX_REQUEST_BYTES)}"}\n{"command":"list"}\n`)).toEqual([refusal('ERR_CONTROL_LINE', /at most/)]);
  });

  test('one client more than allowed is told so; when another leaves there is room again', async () => {
    const clients = await Promise.all(Array.from({ length: MAX_CLIENTS }, () => ControlClient.connect(path)));
    for (const client of clients) expect(await client.ask({ command: 'list' })).toMatchObject({ ok: true });
    expect(await exchange('')).toEqual([refusal('ERR_CONTROL_CLIENTS', /16 clients already/)]);
    for (const client of clients) client[Symbol.dispose]();
    await roomForOne();
  });

  test('a client that goes before its answer harms nobody', async () => {
    for (let i = 0; i < 20; i++) {
      const socket = connect(path);
      await once(socket, 'connect');
      socket.write('{"command":"drivers"}\n'.repeat(i));
      socket.destroy();
    }
    await roomForOne();
    // All of them have left their places.
    const clients = await Promise.all(Array.from({ length: MAX_CLIENTS }, () => ControlClient.connect(path)));
    for (const client of clients) client[Symbol.dispose]();
    await roomForOne();
  });
});

test('any lines are answered one by one, and the process goes on', async () => {
  const word = fc.oneof(fc.string({ maxLength: 30 }), fc.json({ maxDepth: 3 }), fc.record({ command: fc.constantFrom('list', 'get', 'set', 'attributes', 'self-test', 'stats', 'connect'), device: fc.anything() }).map((o) => JSON.stringify(o) ?? ''));
  await fc.assert(fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 5 }), async (lines) => {
    const sent = lines.map((line) => line.replaceAll('\n', ' ')).filter((line) => line !== '');
    await roomForOne();
    const answers = (await exchange(sent.map((line) => `${line}\n`).join(''))) as { ok: boolean; error?: { code: string } }[];
    expect(answers).toHaveLength(sent.length);
    for (const answer of answers) if (!answer.ok) expect(answer.error!.code).not.toBe('ERR_INTERNAL');
  }), { numRuns: 100 });
});

test('the socket is its owner\'s only, and one that somebody else has put into its place stays', async () => {
  const there = join(folder, 'replaced');
  const second = await ControlServer.listen(there, launcher);
  expect(statSync(there).mode & 0o777).toBe(0o600);
  unlinkSync(there);
  const other = createServer().listen(there);
  await once(other, 'listening');
  await second.close();
  expect(existsSync(there)).toBe(true);
  await new Promise((resolve) => other.close(resolve));
});

test('a restart stops the device and starts it', async () => {
  const emudev = launcher.emudev('emu_edu0');
  const seen: string[] = [];
  using _stopped = emudev.on('stopped', () => { seen.push('stopped'); });
  using _started = emudev.on('started', () => { seen.push('started'); });
  expect(await exchange('{"command":"restart","device":"emu_edu0"}')).toEqual([{ ok: true, result: {} }]);
  expect(seen).toEqual(['stopped', 'started']);
});

test('at run time no descriptor of the process is taken for a place, whatever it is', async () => {
  expect(await exchange('{"command":"plug","vdev":"emu_edu1,fd=0"}')).toEqual([{ ok: false, error: { code: 'ERR_USAGE', message: expect.stringContaining('fd= is for the command line') as string } }]);
});

test('what is asked for while the process ends is refused', async () => {
  const other = await Launcher.start(parseArguments(['--control', path, '--vdev', 'net_null0']));
  const closing = other.close();
  await expect(other.plug('net_null1')).rejects.toThrow('about to end');
  await closing;
});
