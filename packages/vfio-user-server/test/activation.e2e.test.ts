import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linux } from '@emudev/linux';
import { expect, it } from 'vitest';
import { fields, LVU_VERSION, RawClient } from './raw-client.ts';

/** What a service would run: serves on whatever socket it was started with. */
const SERVICE = `
import { Window } from '@emudev/dma';
import { listenFds, VfioUserServer } from '@emudev/vfio-user-server';
const nothing = () => undefined;
const device = { name: 'unit', regions: [{ index: 7, sizeBytes: 256, readable: true, writable: false }], irqs: [], resettable: false,
  attach: nothing, detach: nothing, read: (region, offset, into) => { into.fill(7); }, write: nothing, quiesce: async () => {}, resume: nothing, memoryChanged: nothing, irqsChanged: nothing, reset: nothing };
const [socket, ...others] = listenFds();
if (socket.name !== 'nic0' || others.length > 0) process.exit(2);
new VfioUserServer(device, { window: Window.open() }).adopt(socket.fd);
`;

it('a service that is started by a socket unit: the connection that was there before it is served', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-user-unit-'));
  const listener = linux.unixListen(join(folder, 'device.sock'), 4);
  const client = RawClient.connect(join(folder, 'device.sock'));
  // systemd sets LISTEN_PID between fork and exec, as the shell does here.
  const service = spawn('sh', ['-c', 'LISTEN_PID=$$ exec "$0" "$@"', process.execPath, '--input-type=module', '-e', SERVICE], {
    cwd: import.meta.dirname, stdio: ['ignore', 'inherit', 'inherit', listener], env: { ...process.env, LISTEN_FDS: '1', LISTEN_FDNAMES: 'nic0' },
  });
  const ended = once(service, 'exit');
  try {
    expect(await client.errno(1, LVU_VERSION)).toBe(0);
    expect((await client.request(9, fields(0n, 7, 4))).payload).toEqual(fields(0n, 7, 4, 0x07070707));
  } finally {
    client.close();
    linux.close(listener);
    service.kill();
    await ended;
    rmSync(folder, { recursive: true });
  }
});
