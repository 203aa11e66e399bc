import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countMappings, countOpenFds } from '@emudev/linux';
import { afterAll, expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { MigratableDevice } from './conformance/devices.ts';
import { nextEvent, serve, window } from './fixture.ts';
import { fields, version } from './raw-client.ts';
import { access, dmaMap, logStart, migRead, PAGE, READ, setIrqs, setState, STOP_COPY } from './requests.ts';

/**
 * A client process that does what it is told to, a line of JSON for each thing, and waits to be killed:
 * [command, payload in hex, descriptors ('ram' or 'eventfd'), bytes of the message to send, await the answer]
 */
const CLIENT = `
import { linux } from '@emudev/linux';
import { createInterface } from 'node:readline';
const socket = linux.unixConnect(process.argv[1]);
const ram = linux.memfdCreate('ram', { allowSealing: true });
linux.ftruncate(ram, 1 << 20);
const buffer = new Uint8Array(new ArrayBuffer(1 << 21));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, hex, kinds, bytes, answered] = JSON.parse(line);
  const payload = Buffer.from(hex, 'hex');
  const head = Buffer.alloc(16);
  head.writeUInt16LE(command, 2);
  head.writeUInt32LE(16 + payload.length, 4);
  linux.sendmsg(socket, new Uint8Array(Buffer.concat([head, payload]).subarray(0, bytes)), kinds.map((kind) => kind === 'ram' ? ram : linux.eventfd()));
  const ready = new Int32Array([socket]);
  while (answered && linux.recvmsg(socket, buffer, 16) === undefined) linux.pollIn(ready, 1, 1e9);
  console.log('done');
}
`;

type Step = readonly [command: number, payload: Uint8Array, descriptors?: readonly ('ram' | 'eventfd')[], bytes?: number, answered?: boolean];
const MIB = 1n << 20n;
const negotiate: Step = [1, version('{"capabilities":{}}')];
const map: Step = [2, dmaMap(0n, MIB), ['ram']];
const remote: Step = [2, dmaMap(16n * MIB, MIB)];
const vectors: Step = [8, setIrqs(0x24, 2, 0, 3), ['eventfd', 'eventfd', 'eventfd']];
const WRITE = 10;

class Device extends MigratableDevice {
  /** A write asks the client for memory, and waits for it. */
  override async write(region: number, offset: number, from: Uint8Array): Promise<void> {
    super.write(region, offset, from);
    await this.host!.memory.read(16n * MIB, new Uint8Array(4));
  }
}

const phases: readonly (readonly [name: string, steps: readonly Step[], reason: string])[] = [
  ['before it says anything', [], 'closed'],
  ['in the middle of VERSION', [[1, negotiate[1], [], 18, false]], 'connection-lost'],
  ['when it has negotiated', [negotiate], 'closed'],
  ['with memory and interrupts', [negotiate, map, vectors], 'closed'],
  ['in the middle of DMA_MAP, its descriptor sent', [negotiate, map, [2, dmaMap(MIB, MIB), ['ram'], 36, false]], 'connection-lost'],
  ['in the middle of a write of 512 KiB', [negotiate, map, [WRITE, access(0n, 2, 1 << 19, new Uint8Array(1 << 19)), [], 100_000, false]], 'connection-lost'],
  ['with answers that it has not read', [negotiate, map, ...Array.from({ length: 8 }, (): Step => [READ, access(0n, 2, 1 << 16), [], 32, false])], 'connection-lost'],
  ['when the device waits for its memory', [negotiate, map, remote, [WRITE, access(0n, 0, 4, fields(1)), [], 36, false]], 'connection-lost'],
  ['while its pages are logged', [negotiate, map, [16, logStart(PAGE)]], 'closed'],
  ['in the middle of a migration', [negotiate, map, [16, setState(STOP_COPY)], [17, migRead(4)]], 'closed'],
];

const directory = mkdtempSync(join(tmpdir(), 'vfio-user-kill-'));
afterAll(() => { rmSync(directory, { recursive: true }); });

async function follow(child: ChildProcess, steps: readonly Step[]): Promise<void> {
  for (const [command, payload, descriptors = [], bytes = 1 << 30, answered = true] of steps) {
    const done = once(child.stdout!, 'data');
    child.stdin!.write(`${JSON.stringify([command, Buffer.from(payload).toString('hex'), descriptors, bytes, answered])}\n`);
    await done;
  }
}

it.each(phases)('a client process that is killed %s leaves nothing, again and again, and the next one is served', async (_name, steps, reason) => {
  const path = join(directory, 'device.sock');
  const device = new Device();
  await using server = new VfioUserServer(device, { window });
  await server.listen(path);
  await using neighbour = await serve();
  let before: unknown;
  for (let round = 0; round < 2; round++) {
    const connected = nextEvent('connect');
    const child = spawn(process.execPath, ['--input-type=module', '-e', CLIENT, path], { cwd: import.meta.dirname, stdio: ['pipe', 'pipe', 'inherit'] });
    await connected;
    await follow(child, steps);
    const gone = nextEvent('disconnect');
    child.kill('SIGKILL');
    // A peer that has answers unread when it dies resets the connection.
    expect(await gone).toMatchObject({ reason });
    await once(child, 'close');
    for (let i = 0; i < 20; i++) expect(await neighbour.client.errno(READ, access(0n, 0, 4))).toBe(0);
    const now = { fds: countOpenFds(), mappings: countMappings('memfd:ram'), window: window.mappingCount };
    before ??= now;
    expect(now).toEqual(before);
    expect([now.mappings, now.window, server.session]).toEqual([0, 0, undefined]);
  }
  expect(device.log.filter((line) => line === 'attach')).toHaveLength(device.log.filter((line) => line.startsWith('detach')).length);
  expect(device.log.filter((line) => line.startsWith('quiesce')).length).toBe(device.log.filter((line) => line === 'resume').length);
});
