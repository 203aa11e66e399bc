/**
 * A hostile client on the socket and a hostile guest on registers, admin queues and virtchnl, against the program as it is run. The
 * process lives, the guest of its second card does not notice, nothing is left behind, and the next client is served.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { F_SEAL_SHRINK, linux } from '@emudev/linux';
import { Opcode } from '@emudev/virtchnl';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { concat, fields, header, LVU_VERSION, message, NO_REPLY, RawClient } from '../../../packages/vfio-user-server/test/raw-client.ts';
import { DeviceProcess } from './support/device-process.ts';
import { HandDriver, RAM_BYTES, RAM_IOVA } from './support/hand-driver.ts';
import { Random } from './support/random.ts';
import type { Steady } from './support/steady-driver.ts';

const SEED = 0x0ddba11;
const [VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, SET_IRQS, READ, WRITE] = [1, 2, 3, 4, 5, 8, 9, 10];
const [BAR0, CONFIG_SPACE] = [0, 7];
const [EINVAL, EEXIST, ENOSPC] = [22, 17, 28];
const FILE_IO = 8;
const PATIENCE_MS = 20_000;

const folder = mkdtempSync(join(tmpdir(), 'emudev-hostile-'));
const [socket, witnessSocket] = [join(folder, 'hostile.sock'), join(folder, 'witness.sock')];
const support = (name: string): string => fileURLToPath(new URL(`./support/${name}`, import.meta.url));

let device: DeviceProcess;
let witness: ChildProcess;
let idle: Resources;

interface Resources {
  readonly fds: number;
  /** Mappings of what clients call their memory. */
  readonly ofClients: number;
  /** All but anonymous ones: the heap's come and go. */
  readonly mappings: number;
  readonly residentMb: number;
}

function resources(): Resources {
  const lines = readFileSync(`/proc/${device.pid}/maps`, 'utf8').trimEnd().split('\n');
  return {
    fds: device.descriptors(),
    mappings: lines.filter((line) => line.split(/\s+/)[5] !== '').length,
    ofClients: lines.filter((line) => line.includes('hostile')).length,
    residentMb: Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${device.pid}/status`, 'utf8'))![1]) / 1024,
  };
}

/** There is no event for what another process has released: looks until it is so. */
async function eventually<T>(look: () => T | Promise<T>, wanted: (seen: T) => boolean): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (wanted(seen) || performance.now() > deadline) return seen;
    await sleep(5);
  }
}

async function neighbour(): Promise<Steady> {
  const reply = once(witness, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
  witness.send('report');
  return (await reply)[0] as Steady;
}

/** Frames have gone round, whole and in order, since it was asked last; or they do soon. */
async function neighbourGoesOn(atLeast = 1): Promise<void> {
  let echoed = 0;
  await eventually(async () => {
    const seen = await neighbour();
    expect(seen).toMatchObject({ wrong: 0, failures: [] });
    echoed += seen.echoed;
  }, () => echoed >= atLeast);
  expect(echoed).toBeGreaterThanOrEqual(atLeast);
}

/** A session that did nothing wrong yet. Waits for the end of the one before it. */
async function connect(version: Uint8Array | null = LVU_VERSION): Promise<RawClient> {
  const client = served(() => RawClient.connect(socket));
  if (version !== null) await client.request(VERSION, version);
  return client;
}

/** A device that serves nobody any more says why. */
function served<T>(attach: () => T): T {
  const explain = (error: unknown): never => { throw new Error(`nobody is served: ${device.state()}`, { cause: error }); };
  try {
    const result = attach();
    return result instanceof Promise ? (result.catch(explain) as T) : result;
  } catch (error) {
    return explain(error);
  }
}

async function session(use: (client: RawClient) => Promise<void>): Promise<void> {
  const client = await connect();
  try {
    await use(client);
  } finally {
    client.close();
  }
}

async function guest(use: (driver: HandDriver) => Promise<void>): Promise<void> {
  await using driver = await served(() => HandDriver.attach(socket));
  await use(driver);
}

/** A file of the client's; the name is what `resources` counts. */
function memfd(bytes: number, seals = 0): number {
  const fd = linux.memfdCreate('hostile', { allowSealing: true });
  linux.ftruncate(fd, bytes);
  if (seals !== 0) linux.addSeals(fd, seals);
  return fd;
}

const map = (fd: number | undefined, iova: bigint, bytes: bigint, flags = 3, offset = 0n) => (client: RawClient): Promise<number> =>
  client.errno(DMA_MAP, fields(32, flags, offset, iova, bytes), fd === undefined ? [] : [fd]);
const unmapAll = (client: RawClient): Promise<number> => client.errno(DMA_UNMAP, fields(24, 2, 0n, 0n));
const write32 = (offset: number, value: number): Uint8Array => fields(BigInt(offset), BAR0, 4, value);

beforeAll(async () => {
  device = await DeviceProcess.start([
    ...[socket, witnessSocket].flatMap((path, i) => ['--vdev', `emu_iavf${i},path=${path}`, '--vdev', `net_iavf_be${i},emu=emu_iavf${i}`, '--forward', `net_iavf_be${i}`]),
    '--log-level', 'warn',
  ]);
  witness = fork(support('steady-driver.ts'), [witnessSocket], { stdio: 'inherit' });
  await once(witness, 'message');
  // What a first session allocates for good: the count begins after it.
  await guest(async () => { await Promise.resolve(); });
  await session(async () => { await Promise.resolve(); });
  await sleep(50);
  idle = resources();
  await neighbour();
});

afterAll(async () => {
  if (witness?.exitCode === null) witness.kill('SIGKILL');
  await device?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

afterEach(async () => {
  // The next client is served, and then nothing of any client is left.
  await session(async (client) => { expect(await client.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0); });
  const { fds, ofClients } = await eventually(resources, (seen) => seen.fds === idle.fds && seen.ofClients === 0);
  expect({ fds, ofClients }).toEqual({ fds: idle.fds, ofClients: 0 });
  // Its frames went on, whole and in order, while all that happened; and they do now.
  await neighbourGoesOn();
  await neighbourGoesOn();
});

test('thousands of messages that mean nothing, whole, split, cut and with descriptors', async () => {
  const random = new Random(SEED);
  const event = linux.eventfd();
  const file = memfd(0x4000);
  for (let n = 0; n < 400; n++) {
    const client = await connect(random.below(8) === 0 ? null : LVU_VERSION);
    try {
      for (let m = 0; m < 12; m++) {
        const payload = random.bytes(random.pick([0, 4, 8, 16, 24, 32, 40, 64, 300]));
        // Half of the fields small, so that not everything is refused by the first look.
        for (let i = 0; i < payload.length; i += 4) if (random.below(2) === 0) payload.fill(0, i + 1, i + 4);
        const flags = random.pick([0, 0, 0, 0, NO_REPLY, 1, 2, 0x21, 0xffff_ffff]);
        const size = random.below(10) === 0 ? random.pick([0, 15, 17, 1 << 20, (1 << 20) + 33, 0xffff_ffff]) : 16 + payload.length;
        const bytes = concat(header(random.below(4), random.pick([random.below(20), random.u32() & 0xffff, WRITE, READ, DMA_MAP, SET_IRQS]), size, flags), payload);
        const fds = Array.from({ length: random.pick([0, 0, 0, 1, 3, 253]) }, () => random.pick([event, file]));
        const cut = random.below(4) === 0 ? random.below(bytes.length) + 1 : bytes.length;
        await client.sendPatiently(bytes.subarray(0, cut), fds);
        if (cut < bytes.length) {
          if (random.below(3) === 0) break;
          await turn();
          await client.sendPatiently(bytes.subarray(cut));
        }
      }
    } catch {
      // The server has closed: its good right.
    }
    client.close();
  }
  linux.close(event);
  linux.close(file);
});

test('253 descriptors on every command, with and without a reply', async () => {
  const fd = memfd(0x1000);
  const fds = Array<number>(253).fill(fd);
  await session(async (client) => {
    for (let command = 2; command < 20; command++) {
      await client.request(command, new Uint8Array(48), fds);
      client.send(message(1, command, new Uint8Array(48), NO_REPLY), fds);
    }
  });
  linux.close(fd);
});

test('files that are not what a DMA map says', async () => {
  const short = memfd(0x3000);
  const path = join(folder, 'hostile-file');
  writeFileSync(path, new Uint8Array(0x10000));
  const [readOnly, writeOnly, directory, nameOnly] = [openSync(path, 'r'), openSync(path, 'r+'), openSync(folder, 'r'), openSync(path, 0o10000000)];
  const [event, pair] = [linux.eventfd(), linux.unixSocketPair()];
  const sealed = memfd(0x4000, 0x10);
  await session(async (client) => {
    expect(await map(short, 0n, 0x4000n)(client)).toBe(EINVAL);
    expect(await map(short, 0n, 0x1000n, 3, 0x3000n)(client)).toBe(EINVAL);
    expect(await map(short, 0n, 0x1000n, 3, 0xffff_ffff_ffff_f000n)(client)).not.toBe(0);
    expect(await map(short, 0xffff_ffff_ffff_f000n, 0x2000n)(client)).toBe(EINVAL);
    expect(await map(short, 0n, 0n)(client)).toBe(EINVAL);
    expect(await map(short, 1n, 0x1000n)(client)).toBe(EINVAL);
    expect(await map(readOnly, 0n, 0x4000n)(client)).not.toBe(0);
    expect(await map(readOnly, 0n, 0x4000n, 1)(client)).toBe(0);
    for (const fd of [event, directory, ...pair]) for (const flags of [3, 3 | FILE_IO]) expect(await map(fd, 0x10_0000n, 0x1000n, flags)(client)).not.toBe(0);
    expect(await map(nameOnly, 0x10_0000n, 0x1000n)(client)).not.toBe(0);
    // Sealed against writing: may be read only.
    expect(await map(sealed, 0x20_0000n, 0x1000n)(client)).not.toBe(0);
    expect(await map(sealed, 0x20_0000n, 0x1000n, 1)(client)).toBe(0);
    expect(await map(short, 0x30_0000n, 0x3000n)(client)).toBe(0);
    expect(await map(short, 0x30_1000n, 0x1000n)(client)).toBe(EEXIST);
    expect(await map(short, 0x2f_f000n, 0x3000n)(client)).toBe(EEXIST);
    // What is mapped cannot be shrunk any more.
    expect(() => { linux.ftruncate(short, 0); }).toThrow(/EPERM/);
    expect(linux.getSeals(short)! & F_SEAL_SHRINK).not.toBe(0);
  });
  for (const fd of [short, readOnly, writeOnly, directory, nameOnly, event, sealed, ...pair]) linux.close(fd);
});

test('as many DMA maps as were announced, with and without descriptors, and one more', async () => {
  const file = memfd(30_000 * 0x1000);
  await session(async (client) => {
    const flood = async (count: number, make: (n: number) => [Uint8Array, number[]]): Promise<number[]> => {
      const outcomes: number[] = [];
      const collect = async (): Promise<void> => {
        while (outcomes.length < count) {
          const reply = await client.next();
          outcomes.push((reply.flags & 0x20) === 0 ? 0 : reply.errno);
        }
      };
      const collected = collect();
      for (let n = 0; n < count; n++) {
        const [payload, fds] = make(n);
        await client.sendPatiently(message(n & 0xffff, DMA_MAP, payload), fds);
        if ((n & 63) === 0) await turn();
      }
      await collected;
      return outcomes;
    };
    const bare = await flood(65_536, (n) => [fields(32, 3, 0n, BigInt(n) * 0x2000n, 0x1000n), []]);
    expect(bare.filter((errno) => errno === 0)).toHaveLength(65_535);
    expect(bare.at(-1)).toBe(ENOSPC);
    expect(await unmapAll(client)).toBe(0);
    const mapped = await flood(30_000, (n) => [fields(32, 3, BigInt(n) * 0x1000n, BigInt(n) * 0x2000n, 0x1000n), [file]]);
    // More than the window holds mappings: the rest comes in when it is used.
    expect(new Set(mapped)).toEqual(new Set([0]));
    expect(await unmapAll(client)).toBe(0);
    // Regions by pread and pwrite keep a descriptor for each file, not for each region.
    const shared = await flood(3000, (n) => [fields(32, 3 | FILE_IO, 0n, BigInt(n) * 0x2000n, 0x1000n), [file]]);
    expect(new Set(shared)).toEqual(new Set([0]));
    expect(device.descriptors()).toBeLessThan(idle.fds + 50);
    const files = Array.from({ length: 300 }, () => memfd(0x1000));
    const kept = await flood(300, (n) => [fields(32, 3 | FILE_IO, 0n, BigInt(3000 + n) * 0x2000n, 0x1000n), [files[n]!]]);
    for (const other of files) linux.close(other);
    expect(device.descriptors()).toBeLessThan(idle.fds + 500);
    expect(new Set(kept)).toEqual(new Set([0, ENOSPC]));
  });
  linux.close(file);
});

test('replies that nobody reads, with descriptors in them', async () => {
  await session(async (client) => {
    client.reading = false;
    const question = message(1, GET_REGION_INFO, fields(64, 0, 0, 0, 0n, 0n));
    const flood = concat(...Array<Uint8Array>(64).fill(question));
    for (let n = 0, full = 0; n < 1000 && full < 200; n++) {
      if (linux.sendmsg(client.fd, flood, []) === undefined) {
        full++;
        await sleep(1);
      }
    }
    expect(device.descriptors()).toBeLessThan(idle.fds + 500);
  });
});

test('interrupts: no eventfds, too many, replaced and closed under traffic', async () => {
  await guest(async (driver) => {
    const file = memfd(0x1000);
    const [a, b] = linux.unixSocketPair();
    // One session at a time: this client speaks for the driver.
    const { client } = driver;
    for (const fd of [file, a, b]) await expect(client.setIrqEventfds(2, 0, [fd])).rejects.toThrow(/EINVAL|errno 22/);
    await traffic(driver);
    for (let n = 0; n < 100; n++) {
      const fds = Array.from({ length: 5 }, () => linux.eventfd());
      await client.setIrqEventfds(2, 0, fds);
      for (const fd of fds) linux.close(fd);
      await driver.armVector(1);
      kick(driver, n);
    }
    for (const fd of [file, a, b]) linux.close(fd);
  });
});

/** Ring 0 of either direction running over zeroed memory: bursts find descriptors at any time. */
async function traffic(driver: HandDriver): Promise<void> {
  await driver.filters();
  await driver.configure({
    tx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA },
    rx: { vsiId: 1, queueId: 0, ringLength: 64, ringAddress: RAM_IOVA + 0x1_0000n, bufferBytes: 2048, maxPacketBytes: 9728 },
  });
  const { view, u8 } = driver.window;
  for (let i = 0; i < 64; i++) {
    const tx = driver.ram.offset + 16 * i;
    view.setBigUint64(tx, RAM_IOVA + 0x10_0000n, true);
    view.setBigUint64(tx + 8, (3n << 4n) | (64n << 34n), true);
    view.setBigUint64(driver.ram.offset + 0x1_0000 + 32 * i, RAM_IOVA + BigInt(0x20_0000 + i * 2048), true);
  }
  u8.set(driver.mac, driver.ram.offset + 0x10_0000);
  u8.set(driver.mac, driver.ram.offset + 0x10_0006);
  driver.setTail('rx', 0, 63);
  expect((await driver.enable(1)).status).toBe(0);
}

function kick(driver: HandDriver, n: number): void {
  driver.setTail('tx', 0, (n * 7) & 63);
  driver.setTail('rx', 0, (n * 5) & 63);
}

test('an eventfd made blocking and filled to the brim stops nobody', async () => {
  await guest(async (driver) => {
    const full = linux.eventfd();
    await driver.client.setIrqEventfds(2, 0, [full, full, full, full, full]);
    linux.setNonBlocking(full, false);
    linux.write(full, new Uint8Array(new BigUint64Array([0xffff_ffff_ffff_fffen]).buffer));
    await traffic(driver);
    await neighbour();
    for (let n = 0; n < 20; n++) {
      await driver.armVector(1);
      kick(driver, n);
      await sleep(5);
    }
    await neighbourGoesOn(20);
    linux.close(full);
  });
});

test('memory taken away and given back while its queues run', async () => {
  await guest(async (driver) => {
    for (let n = 0; n < 100; n++) {
      if (n % 10 === 0) {
        await driver.reset();
        await traffic(driver);
      }
      kick(driver, n);
      await driver.client.dmaUnmap(RAM_IOVA, RAM_BYTES);
      kick(driver, n + 1);
      await driver.client.dmaMap({ iova: RAM_IOVA, sizeBytes: RAM_BYTES, readable: n % 10 === 9 || n % 3 !== 0, writable: n % 10 === 9 || n % 4 !== 0, fd: driver.ram.fd });
    }
  });
});

test('registers written at random while functions are reset, bus mastering toggled, and traffic runs', async () => {
  const random = new Random(SEED + 1);
  const offsets = [0x0, 0x4, 0x2000, 0x3800, 0x3804, 0x4800, 0x5000, 0x5c00, 0x6000, 0x6400, 0x6800, 0x6c00, 0x7000, 0x7400, 0x7800, 0x7c00, 0x8000, 0x8400, 0x8800, 0xfffc];
  for (let round = 0; round < 5; round++) {
    await guest(async (driver) => {
      const { client } = driver;
      await traffic(driver);
      for (let n = 0; n < 400; n++) {
        const offset = random.below(4) === 0 ? random.below(0xfffc) : random.pick(offsets);
        const value = random.pick([0, 1, 32, 0x3ff, 0x8000_0020, 0xffff_ffff, random.u32()]);
        await client.write(BAR0, offset, fields(value).subarray(0, random.pick([1, 2, 4, 4, 4])), { posted: random.below(2) === 0 });
        kick(driver, n);
        if (n % 40 === 0) await client.write(CONFIG_SPACE, 4, Uint8Array.of(random.pick([0, 6]), 0));
        // Initiate-FLR of Device Control.
        if (n % 100 === 99) await client.write(CONFIG_SPACE, 0xa9, Uint8Array.of(0x80));
        if (n % 150 === 149) await client.reset();
      }
    });
  }
});

test('admin queues in memory that is not there, read-only, overlapping; descriptors that point everywhere', async () => {
  const random = new Random(SEED + 2);
  const file = memfd(0x10_0000);
  await session(async (client) => {
    expect(await map(file, 0n, 0x4_0000n)(client)).toBe(0);
    expect(await map(file, 0x10_0000n, 0x4_0000n, 1, 0x4_0000n)(client)).toBe(0);
    expect(await map(file, 0x20_0000n, 0x4_0000n, 2, 0x8_0000n)(client)).toBe(0);
    // Reached by message, and this client answers none.
    expect(await map(undefined, 0x30_0000n, 0x4_0000n)(client)).toBe(0);
    expect(await client.errno(WRITE, fields(4n, CONFIG_SPACE, 4, 6))).toBe(0);
    const places = [0, 0x1000, 0x3_fff0, 0x10_0000, 0x20_0000, 0xffff_ff00, 0x50_0000];
    for (let n = 0; n < 150; n++) {
      const ring = random.pick(places);
      const entries = random.pick([1, 2, 32, 1023]);
      const descriptors = concat(...Array.from({ length: 64 }, () => {
        const d = fields(random.pick([0x1400, 0x3000, random.u32() & 0xffff]) | (random.pick([0x0801, 0x0003, 0x1234]) << 16), random.pick([0, 8, 4096, 0xffff]), random.below(60), 0, 0, 0, random.pick([0, 0xffff_ffff]), random.pick(places));
        return d;
      }));
      linux.pwrite(file, descriptors, random.pick([0, 0x1000, 0x4_0000, 0x8_0000]));
      for (const [base, high, length, head, tail] of [[0x7c00, 0x7800, 0x6800, 0x6400, 0x8400], [0x6c00, 0x6000, 0x8000, 0x7400, 0x7000]] as const) {
        for (const [offset, value] of [[length, 0], [base, random.below(3) === 0 ? random.pick(places) : ring], [high, random.pick([0, 0, 0, 0xffff_ffff])], [head, random.pick([0, 1, 0x3ff])], [length, (0x8000_0000 | entries) >>> 0], [tail, random.pick([entries - 1, 0, 0x3ff, 5000])]] as const) {
          expect(await client.errno(WRITE, write32(offset, value))).toBe(0);
        }
      }
    }
    // An unanswered DMA message may be under way: leaving must not wait for it.
    for (const [offset, value] of [[0x6800, 0], [0x7c00, 0x30_0000], [0x7800, 0], [0x6400, 0], [0x6800, 0x8000_0020], [0x8400, 5]] as const) client.send(message(7, WRITE, write32(offset, value >>> 0), NO_REPLY));
  });
  linux.close(file);
});

test('every virtchnl opcode with every wrong length', async () => {
  const random = new Random(SEED + 3);
  await guest(async (driver) => {
    // Not RESET_VF and REQUEST_QUEUES: they take the mailbox away.
    const opcodes = [...Object.values(Opcode), 0, 16, 99, 0xffff_ffff].filter((o) => o !== Opcode.RESET_VF && o !== Opcode.REQUEST_QUEUES && o !== Opcode.EVENT);
    for (const opcode of opcodes) {
      for (const length of [0, 1, 3, 4, 7, 8, 12, 15, 16, 72, 136, 200, 4095, 4096]) {
        const payload = random.pick([new Uint8Array(length), new Uint8Array(length).fill(0xff), random.bytes(length)]);
        expect(typeof (await driver.request(opcode, payload)).status).toBe('number');
      }
    }
  });
});

test('RESET_VF in a loop between ENABLE and DISABLE', async () => {
  await guest(async (driver) => {
    for (let n = 0; n < 60; n++) {
      await traffic(driver);
      kick(driver, n);
      if (n % 2 === 0) expect((await driver.disable(1)).status).toBe(0);
      await driver.reset();
    }
  });
});

test('clients killed in the middle of a message and of their traffic, twenty times', async () => {
  for (let n = 0; n < 20; n++) {
    const child = fork(support('killed-client.ts'), [socket, n % 2 === 0 ? 'message' : 'traffic'], { stdio: 'inherit' });
    await once(child, 'message');
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

test('a second client waits for the first; a silent one is shown the door', async () => {
  const first = await connect();
  const second = RawClient.connect(socket);
  const answer = second.request(VERSION, LVU_VERSION);
  expect(await first.errno(GET_INFO, fields(16, 0, 0, 0))).toBe(0);
  first.close();
  expect((await answer).command).toBe(VERSION);
  second.close();
  const silent = RawClient.connect(socket);
  const begin = performance.now();
  await silent.closed;
  expect(performance.now() - begin).toBeLessThan(10_000);
  silent.close();
});

test('after all of it the process has not grown', async () => {
  const now = resources();
  expect(now.mappings).toBeLessThan(idle.mappings + 16);
  // The heap keeps what a flood of messages made it; one flood after another does not add to that.
  expect(now.residentMb).toBeLessThan(idle.residentMb + 300);
});

/** QEMU's memory-backend-memfd can be sealed; memory-backend-file on /dev/shm cannot. */
async function unsealedGuest(...options: string[]): Promise<{ readonly errno: number; readonly device: DeviceProcess; readonly client: RawClient; readonly file: number } & AsyncDisposable> {
  const path = join(folder, 'unsealed.sock');
  const file = openSync(`/dev/shm/hostile-${process.pid}`, 'w+');
  rmSync(`/dev/shm/hostile-${process.pid}`);
  linux.ftruncate(file, 0x10000);
  const own = await DeviceProcess.start(['--socket', path, '--far', 'loop', ...options]);
  const client = RawClient.connect(path);
  await client.request(VERSION, LVU_VERSION);
  return {
    errno: await map(file, 0n, 0x10000n)(client), device: own, client, file,
    async [Symbol.asyncDispose]() {
      client.close();
      linux.close(file);
      await own[Symbol.asyncDispose]();
    },
  };
}

test('guest memory that cannot be sealed is mapped with a warning, as QEMU on /dev/shm needs it', async () => {
  await using guest = await unsealedGuest();
  expect(guest.errno).toBe(0);
  await guest.device.says(/could truncate.*--unsealed-memory/);
});

test('or refused, on request: then its truncation harms nobody', async () => {
  await using guest = await unsealedGuest('--unsealed-memory', 'refuse');
  expect(guest.errno).toBe(1);
  linux.ftruncate(guest.file, 0);
  const sealable = memfd(0x10000);
  expect(await map(sealable, 0n, 0x10000n)(guest.client)).toBe(0);
  expect(() => { linux.ftruncate(sealable, 0); }).toThrow(/EPERM/);
  // A look at the memory: the admin queue's ring is in it.
  for (const [offset, value] of [[0x7c00, 0], [0x7800, 0], [0x6800, 0x8000_0020], [0x8400, 1]] as const) expect(await guest.client.errno(WRITE, write32(offset, value))).toBe(0);
  expect(await guest.device.stop()).toMatchObject({ code: 0 });
  linux.close(sealable);
});

test('a client that fails again and again does not fill the log', async () => {
  await using guest = await unsealedGuest('--log-format', 'json');
  for (let n = 0; n < 2000; n++) expect(await map(undefined, 1n, 0x1000n)(guest.client)).toBe(EINVAL);
  await guest.device.stop();
  expect(guest.device.stderr.split('\n').length).toBeLessThan(200);
});
