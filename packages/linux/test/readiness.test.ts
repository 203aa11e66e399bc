import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { signalIfRoom } from '../src/eventfd.ts';
import { linux } from '../src/index.ts';
import { libc } from '../src/libc.ts';
import { watch, watchByTimer } from '../src/readiness.ts';

describe('eventfd', () => {
  test('counts signals, and draining clears them', () => {
    const fd = linux.eventfd(3);
    expect(linux.eventfdSignal(fd)).toBe(true);
    expect(linux.eventfdDrain(fd)).toBe(4);
    expect(linux.eventfdDrain(fd)).toBe(0);
    linux.close(fd);
  });

  test('what is no eventfd, or closed, is false, never an error', () => {
    const file = linux.memfdCreate('file', { allowSealing: false });
    expect(linux.eventfdSignal(file)).toBe(false);
    linux.close(file);
    expect(linux.eventfdSignal(file)).toBe(false);
    expect(linux.eventfdSignal(-1)).toBe(false);
  });

  test('a peer that makes it blocking and fills it stops nobody', () => {
    const fd = linux.eventfd();
    linux.write(fd, new Uint8Array(BigUint64Array.of(0xfffffffffffffffen).buffer));
    linux.setNonBlocking(fd, false);
    // More than fit between two reapings; a write would hang here for ever.
    for (let n = 0; n < 1000; n++) linux.eventfdSignal(fd);
    expect(linux.eventfdDrain(fd)).toBeGreaterThan(2 ** 63);
    linux.eventfdSignal(fd);
    expect(linux.eventfdDrain(fd)).toBe(1);
    linux.close(fd);
  });

  test('draining one that is empty and blocking waits for nobody', () => {
    const fd = linux.eventfd();
    linux.setNonBlocking(fd, false);
    expect(linux.eventfdDrain(fd)).toBe(0);
    linux.eventfdSignal(fd);
    expect(linux.eventfdDrain(fd)).toBe(1);
    linux.close(fd);
  });

  test('without AIO of the kernel: signalled while there is room, else left alone', () => {
    const fd = linux.eventfd();
    expect(signalIfRoom(fd)).toBe(true);
    expect(linux.eventfdDrain(fd)).toBe(1);
    linux.write(fd, new Uint8Array(BigUint64Array.of(0xfffffffffffffffen).buffer));
    linux.setNonBlocking(fd, false);
    expect(signalIfRoom(fd)).toBe(false);
    linux.close(fd);
    expect(signalIfRoom(fd)).toBe(false);
  });
});

test('a process that is out of descriptors can still watch those it has', () => {
  const [a, b] = linux.unixSocketPair();
  watch(a, { readable: true }, () => undefined)[Symbol.dispose]();
  const real = libc.epoll_create1;
  try {
    libc.epoll_create1 = () => -1;
    watch(b, { readable: true }, () => undefined)[Symbol.dispose]();
  } finally {
    libc.epoll_create1 = real;
  }
  linux.close(a);
  linux.close(b);
});

describe('pollIn', () => {
  test('returns how many are ready, ignores negative ones, times out', () => {
    const [x, y, z] = [linux.eventfd(), linux.eventfd(), linux.eventfd()];
    const fds = Int32Array.of(x, -1, y, z);
    expect(linux.pollIn(fds, 4, 0)).toBe(0);
    linux.eventfdSignal(x);
    linux.eventfdSignal(z);
    expect(linux.pollIn(fds, 4, -1)).toBe(2);
    expect(linux.pollIn(fds, 3, -1)).toBe(1);
    linux.eventfdDrain(x);
    const start = performance.now();
    expect(linux.pollIn(fds, 3, 20_000_000)).toBe(0);
    expect(performance.now() - start).toBeGreaterThanOrEqual(19);
    for (const fd of [x, y, z]) linux.close(fd);
  });

  test('more descriptors than the buffer began with', () => {
    const fd = linux.eventfd(1);
    expect(linux.pollIn(new Int32Array(100).fill(fd), 100, 0)).toBe(100);
    linux.close(fd);
  });

  test('a closed peer is ready, not asleep for ever', () => {
    const [a, b] = linux.unixSocketPair();
    linux.close(a);
    expect(linux.pollIn(Int32Array.of(b), 1, -1)).toBe(1);
    linux.close(b);
  });
});

describe.each([
  ['koffi’s watcher', watch],
  ['the fall-back', watchByTimer],
])('watch by %s', (_name, watchWith) => {
  let a: number;
  let b: number;
  beforeEach(() => {
    [a, b] = linux.unixSocketPair();
  });
  afterEach(() => {
    linux.close(a);
    linux.close(b);
  });

  test('calls back while readable, again and again until drained', async () => {
    let calls = 0;
    await new Promise<void>((resolve) => {
      const watcher = watchWith(b, { readable: true }, (seen) => {
        expect(seen).toMatchObject({ readable: true, error: false });
        if (++calls < 3) return;
        watcher[Symbol.dispose]();
        resolve();
      });
      linux.write(a, Uint8Array.of(1));
    });
    expect(calls).toBe(3);
  });

  test('is silent once disposed, and the descriptor can be watched again', async () => {
    const silent = watchWith(b, { readable: true }, () => {
      throw new Error('called after it was disposed');
    });
    silent[Symbol.dispose]();
    silent[Symbol.dispose]();
    linux.write(a, Uint8Array.of(1));
    await new Promise<void>((resolve) => {
      const watcher = watchWith(b, { readable: true }, () => {
        watcher[Symbol.dispose]();
        resolve();
      });
    });
  });

  test('reports writable', async () => {
    const seen = await new Promise<{ readable: boolean; writable: boolean }>((resolve) => {
      const watcher = watchWith(b, { writable: true }, (events) => {
        watcher[Symbol.dispose]();
        resolve(events);
      });
    });
    expect(seen).toMatchObject({ readable: false, writable: true });
  });

  test('a closed peer is readable: the read tells the end', async () => {
    const [c, d] = linux.unixSocketPair();
    linux.close(c);
    await new Promise<void>((resolve) => {
      const watcher = watchWith(d, { readable: true }, (events) => {
        expect(events.readable).toBe(true);
        watcher[Symbol.dispose]();
        resolve();
      });
    });
    expect(linux.read(d, new Uint8Array(1))).toBe(0);
    linux.close(d);
  });

  test('an invalid descriptor is EBADF at once', () => {
    const fd = linux.eventfd();
    linux.close(fd);
    expect(() => watchWith(fd, { readable: true }, () => {})).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'watch' }));
  });
});

test('a descriptor that cannot be watched is an error, not the end of the process', () => {
  const [a, b] = linux.unixSocketPair();
  using _first = linux.watch(a, { readable: true }, () => {});
  expect(() => linux.watch(a, { readable: true }, () => {})).toThrow(expect.objectContaining({ code: 'EEXIST' }));
  const file = linux.memfdCreate('plain', { allowSealing: false });
  expect(() => linux.watch(file, { readable: true }, () => {})).toThrow(expect.objectContaining({ code: 'EPERM', syscall: 'watch' }));
  for (const fd of [file, b]) linux.close(fd);
  _first[Symbol.dispose]();
  linux.close(a);
});

test('in a process that waits for nothing else, promises settled by a watch continue and its errors surface', () => {
  const script = `
    import { linux } from '@emudev/linux';
    const fd = linux.eventfd(1);
    process.on('uncaughtException', (error) => console.log('uncaught', error.message));
    const watcher = await new Promise((resolve) => { const w = linux.watch(fd, { readable: true }, () => { linux.eventfdDrain(fd); resolve(w); }); });
    watcher[Symbol.dispose]();
    console.log('continued');
    linux.eventfdSignal(fd);
    const second = linux.watch(fd, { readable: true }, () => { second[Symbol.dispose](); throw new Error('from the callback'); });
    linux.watch(linux.eventfd(1), { readable: true }, () => {}, { ref: false });
  `;
  const cwd = new URL('..', import.meta.url).pathname;
  const { stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd, encoding: 'utf8', timeout: 8000 });
  expect({ stdout, status }).toEqual({ stdout: 'continued\nuncaught from the callback\n', status: 0 });
});

test('terminating a worker that watches a ready descriptor ends that worker only', async () => {
  const code = `
    const { linux } = await import('@emudev/linux');
    linux.watch(linux.eventfd(1), { readable: true }, () => {});
    (await import('node:worker_threads')).parentPort.postMessage('watching');
  `;
  const script = `
    import { once } from 'node:events';
    import { Worker } from 'node:worker_threads';
    const worker = new Worker(${JSON.stringify(code)}, { eval: true });
    await once(worker, 'message');
    console.log(await worker.terminate());
  `;
  const cwd = new URL('..', import.meta.url).pathname;
  const { stdout, status } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], { cwd, encoding: 'utf8', timeout: 8000 });
  expect({ stdout, status }).toEqual({ stdout: '1\n', status: 0 });
});

test('workers sleep in pollIn, watch, and pass descriptors, all at the same time', async () => {
  const [ping, pong] = [linux.eventfd(), linux.eventfd()];
  const [mine, theirs] = linux.unixSocketPair();
  const worker = new Worker(new URL('./echo.worker.ts', import.meta.url), { workerData: { ping, pong, socket: theirs } });
  // Asked for now: a worker's last message and its exit may arrive in one go.
  const exited = once(worker, 'exit');
  await once(worker, 'message');
  for (let i = 0; i < 200; i++) {
    linux.eventfdSignal(ping);
    expect(linux.pollIn(Int32Array.of(pong), 1, 5e9)).toBe(1);
    expect(linux.eventfdDrain(pong)).toBe(1);
    linux.sendmsg(mine, Uint8Array.of(i & 0x7f), [ping]);
    expect(linux.pollIn(Int32Array.of(mine), 1, 5e9)).toBe(1);
    const got = linux.recvmsg(mine, new Uint8Array(4), 4)!;
    expect(got.fds).toHaveLength(1);
    linux.close(got.fds[0]!);
  }
  worker.postMessage('watch');
  await once(worker, 'message');
  linux.eventfdSignal(ping);
  expect(await once(worker, 'message')).toEqual(['watched']);
  expect(await exited).toEqual([0]);
  for (const fd of [ping, pong, mine, theirs]) linux.close(fd);
});
