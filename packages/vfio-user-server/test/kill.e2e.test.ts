import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countMappings, countOpenFds } from '@emudev/linux';
import { expect, it } from 'vitest';
import { VfioUserServer } from '../src/index.ts';
import { FakeDevice, nextEvent, window } from './fixture.ts';

/** A client process that maps memory, assigns a vector, sends half of a message, and waits to be killed. */
const CLIENT = `
import { linux } from '@emudev/linux';
const [path, version] = [process.argv[1], Buffer.from(process.argv[2], 'hex')];
const socket = linux.unixConnect(path);
const buffer = new Uint8Array(new ArrayBuffer(4096));
const message = (command, payload) => { const h = Buffer.alloc(16); h.writeUInt16LE(command, 2); h.writeUInt32LE(16 + payload.length, 4); return Buffer.concat([h, payload]); };
const words = (...values) => Buffer.concat(values.map((v) => { const b = Buffer.alloc(typeof v === 'bigint' ? 8 : 4); typeof v === 'bigint' ? b.writeBigUInt64LE(v) : b.writeUInt32LE(v); return b; }));
const request = (bytes, fds) => {
  linux.sendmsg(socket, new Uint8Array(bytes), fds);
  const ready = new Int32Array([socket]);
  while (linux.recvmsg(socket, buffer, 16) === undefined) linux.pollIn(ready, 1, 1e9);
};
const ram = linux.memfdCreate('ram', { allowSealing: true });
linux.ftruncate(ram, 1 << 20);
request(message(1, version), []);
request(message(2, words(32, 3, 0n, 0n, 1n << 20n)), [ram]);
request(message(8, words(20, 0x24, 2, 0, 1)), [linux.eventfd()]);
linux.sendmsg(socket, new Uint8Array(message(2, words(32, 3, 0n, 1n << 20n, 1n << 20n)).subarray(0, 20)), [ram]);
console.log('half sent');
setInterval(() => {}, 1000);
`;

it('a client process that is killed in the middle of a message leaves nothing, again and again', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'vfio-user-kill-'));
  const path = join(directory, 'device.sock');
  const device = new FakeDevice();
  const server = new VfioUserServer(device, { window });
  await server.listen(path);
  const version = Buffer.concat([Buffer.from([0, 0, 2, 0]), Buffer.from('{"capabilities":{}}\0')]).toString('hex');
  let before: unknown;
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', CLIENT, path, version], { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    expect(server.session?.dmaMaps).toBe(1);
    const gone = nextEvent('disconnect');
    child.kill('SIGKILL');
    expect(await gone).toMatchObject({ reason: 'connection-lost' });
    await once(child, 'close');
    expect(device.take().slice(-3)).toEqual(['quiesce detach', 'detach connection-lost', 'resume']);
    const now = { fds: countOpenFds(), mappings: countMappings('memfd:ram') };
    before ??= now;
    expect(now).toEqual(before);
    expect(now.mappings).toBe(0);
  }
  await server.close();
  rmSync(directory, { recursive: true });
});
