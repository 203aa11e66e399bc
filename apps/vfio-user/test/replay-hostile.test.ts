/** A replay against servers that do not behave: it ends, in time, and holds no more than its limits say. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { countOpenFds, linux } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_REPLAY_BACKLOG, MAX_REPLAY_BACKLOG_BYTES, MAX_REPLAY_BACKLOG_FDS } from '../src/limits.ts';
import { captureMessage, captureStart } from '../src/pcapng/capture.ts';
import { readRecording, type RecordedMessage } from '../src/replay/recording.ts';
import { replaySession, type ReplayOptions, type ReplayResult } from '../src/replay/replayer.ts';
import { memfd, Raw, temporaryFolder, until } from './wire.ts';

let before: number;
let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  before = countOpenFds();
  folder = temporaryFolder();
});
afterEach(() => {
  folder[Symbol.dispose]();
  expect(countOpenFds()).toBe(before);
});

const message = (atMs: number, from: 'client' | 'server', bytes: Uint8Array): Uint8Array => captureMessage({ atMs, session: 1, channel: 'main', from, framing: 'whole', bytes, size: bytes.length, fds: [] }, 0);
const NOTHING = new Uint8Array(0);

function recording(...messages: readonly (readonly ['client' | 'server', Uint8Array])[]): RecordedMessage[] {
  return readRecording(Buffer.concat([...captureStart('a', 'b'), ...messages.map(([from, bytes], i) => message(i, from, bytes))])).get(1)!;
}

const RESETS = recording(['client', p.encodeMessage(1, 13, 0, NOTHING)], ['server', p.encodeMessage(1, 13, 1, NOTHING)], ['client', p.encodeMessage(2, 13, 0, NOTHING)], ['server', p.encodeMessage(2, 13, 1, NOTHING)]);

/** `serve` has the server's end of the connection while the replay runs. */
async function against(serve: (server: Raw, over: () => boolean) => Promise<void>, messages = RESETS, options: ReplayOptions = {}): Promise<ReplayResult> {
  const path = join(folder.path, 's');
  const listener = linux.unixListen(path, 1);
  let over = false;
  const replay = replaySession(messages, path, { timeoutMs: 5000, ...options }).finally(() => { over = true; });
  // Looked at when the server is done.
  replay.catch(() => {});
  let fd: number | undefined;
  await until(() => (fd = linux.unixAccept(listener)) !== undefined, 'the replay connects');
  const server = new Raw(fd!);
  try {
    await serve(server, () => over);
    return await replay;
  } finally {
    linux.close(server.fd);
    linux.close(listener);
  }
}

/** Sends `bytes` again and again until the replay is over. */
async function flood(server: Raw, over: () => boolean, bytes: Uint8Array, fds: readonly number[] = []): Promise<void> {
  for (let at = 0; !over();) {
    try {
      at = (at + (linux.sendmsg(server.fd, bytes.subarray(at), at === 0 ? fds : []) ?? 0)) % bytes.length;
    } catch {
      // It has hung up.
      return;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const whys = ({ differences }: ReplayResult): unknown[] => differences.map(({ what }) => what);

describe('a server', () => {
  it('that never stops talking is given up after the time-out', async () => {
    const path = join(folder.path, 's');
    // A process that only sends is faster than whoever looks at what comes.
    const talking = spawn(process.execPath, ['--input-type=module', '-e', `
      import { linux } from '@emudev/linux';
      const listener = linux.unixListen(process.argv[1], 1);
      console.log('listening');
      let fd;
      while (fd === undefined) fd = linux.unixAccept(listener);
      const block = Buffer.concat(Array.from({ length: 2000 }, () => Buffer.from(process.argv[2], 'hex')));
      for (let at = 0; ;) at = (at + (linux.sendmsg(fd, block.subarray(at), []) ?? 0)) % block.length;`,
    path, Buffer.from(p.encodeMessage(9, 12, 0x10, NOTHING)).toString('hex')], { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'ignore'] });
    await once(talking.stdout, 'data');
    const result = await replaySession(RESETS, path, { timeoutMs: 300 });
    expect(whys(result)).toContain('the server sends DMA_WRITE(), which the recording does not have');
    expect(result.compared).toBe(0);
    // Nobody reads any more: it ends by itself.
    if (talking.exitCode === null) await once(talking, 'close');
  });

  it('that answers what nobody asked ends the replay: too many', async () => {
    const replies = Buffer.concat(Array.from({ length: 4000 }, () => p.encodeMessage(99, 13, 1, NOTHING)));
    const result = await against((server, over) => flood(server, over, replies));
    expect(whys(result)).toContain(`the server sends more than ${MAX_REPLAY_BACKLOG} messages that were not asked for`);
  });

  it('… too much', async () => {
    const reply = p.encodeMessage(99, 9, 1, new Uint8Array(4 << 20));
    const result = await against((server, over) => flood(server, over, reply));
    expect(whys(result)).toContain(`the server sends more than ${MAX_REPLAY_BACKLOG_BYTES} bytes that were not asked for`);
  });

  it('… with too many descriptors', async () => {
    const files = Array.from({ length: 200 }, () => memfd(1));
    const result = await against((server, over) => flood(server, over, p.encodeMessage(99, 13, 1, NOTHING), files));
    for (const fd of files) linux.close(fd);
    expect(whys(result)).toContain(`the server sends more than ${MAX_REPLAY_BACKLOG_FDS} descriptors that were not asked for`);
  });

  it('that asks and does not read the answers ends the replay', async () => {
    const commands = Buffer.concat(Array.from({ length: 1000 }, () => p.encodeMessage(9, 11, 0, p.encodeDmaRead({ address: 0n, count: 4 }))));
    const result = await against((server, over) => flood(server, over, commands));
    expect(whys(result)).toContain(`the server sends more than ${MAX_REPLAY_BACKLOG} messages that were not asked for`);
  });

  it('that has taken a large message is not watched for room any more', async () => {
    const large = recording(['client', p.encodeMessage(1, 10, 0, new Uint8Array(1 << 20))], ['server', p.encodeMessage(1, 10, 1, new Uint8Array(16))]);
    const interests: (boolean | undefined)[] = [];
    const sys = { ...linux, watch: (...[fd, events, callback]: Parameters<typeof linux.watch>) => {
      interests.push(events.writable);
      return linux.watch(fd, events, callback);
    } };
    const result = await against(async (server) => {
      await until(() => { server.read(); return server.got.length === (1 << 20) + 16; }, 'the message');
      await until(() => interests.at(-1) === false, 'no interest in writing');
      await server.send(p.encodeMessage(1, 10, 1, new Uint8Array(16)));
    }, large, { sys });
    expect(interests).toContain(true);
    expect(whys(result)).toEqual([]);
  });

  it('whose twin socket is a file is compared all the same', async () => {
    const version = p.encodeVersion({ major: 0, minor: 2, capabilities: { twinSocket: { supported: true, fdIndex: 0 } } });
    const messages = recording(['client', p.encodeMessage(1, 1, 0, version)], ['server', p.encodeMessage(1, 1, 1, version)]);
    const result = await against(async (server) => {
      const plain = openSync(import.meta.filename, 'r');
      await server.send(p.encodeMessage(1, 1, 1, version), [plain]);
      closeSync(plain);
      await until(() => server.read(), 'the question');
    }, messages);
    expect(whys(result)).toEqual([[{ field: 'descriptors', recorded: 'none', replayed: expect.stringMatching(/^file /) as string }]]);
  });

  it('that hangs up with its last answer is compared to the end', async () => {
    const result = await against(async (server) => {
      for (const id of [1, 2]) {
        await until(() => { server.read(); return server.got.length === 16 * id; }, 'the command');
        await server.send(p.encodeMessage(id, 13, 1, NOTHING));
      }
      linux.shutdownWrite(server.fd);
    });
    expect(result).toMatchObject({ compared: 2, differences: [] });
  });
});

describe('a recording', () => {
  it('of a client that hung up within a message plays the bytes it sent', () => {
    const half = p.encodeMessage(1, 9, 0, p.encodeRegionRead({ offset: 0, region: 0, count: 4 })).subarray(0, 20);
    const cut = captureMessage({ atMs: 0, session: 1, channel: 'main', from: 'client', framing: 'cut', bytes: half, size: half.length, fds: [] }, 0);
    const [played] = readRecording(Buffer.concat([...captureStart('a', 'b'), cut])).get(1)!;
    expect(played).toMatchObject({ kind: 'raw', header: undefined, partner: undefined });
    expect(Uint8Array.from(played!.payload)).toEqual(half);
  });
});

describe('a comparison', () => {
  const version = (json: string): Uint8Array => Buffer.concat([Uint8Array.of(0, 0, 2, 0), Buffer.from(`${json}\0`)]);
  const answered = (was: Uint8Array, now: Uint8Array, command: number): Promise<ReplayResult> => against(async (server) => {
    await until(() => server.read(), 'the command');
    await server.send(p.encodeMessage(1, command, 1, now));
    await until(() => { server.read(); return server.ended; }, 'the end');
  }, recording(['client', p.encodeMessage(1, command, 0, NOTHING)], ['server', p.encodeMessage(1, command, 1, was)]));

  it('takes VERSION as data, and nothing else', async () => {
    expect(whys(await answered(version('{"capabilities":{"max_msg_fds":8,"max_dma_maps":5}}'), version('{ "capabilities": { "max_dma_maps": 5, "max_msg_fds": 8 } }'), 1))).toEqual([]);
    expect(whys(await answered(version('{"capabilities":{"max_msg_fds":8}}'), version('{"capabilities":{"max_msg_fds":9}}'), 1))).toHaveLength(1);
    expect(whys(await answered(version('{}'), Uint8Array.of(0, 0, 1, 0, 0x7b, 0x7d, 0), 1))).toHaveLength(1);
  });

  it('notices an answer that has grown, or shrunk', async () => {
    const [short, long] = [new Uint8Array(16), new Uint8Array(17)];
    for (const [was, now] of [[short, long], [long, short]] as const) expect(whys(await answered(was, now, 10))).toHaveLength(1);
  });

  it('tells a posted command of the server from one that wants an answer', async () => {
    const write = p.encodeDmaWrite(0n, new Uint8Array(4), 'lvu');
    const result = await against(async (server) => {
      await server.send(p.encodeMessage(5, 12, 0x10, write));
      await until(() => { server.read(); return server.ended; }, 'the end');
    }, recording(['server', p.encodeMessage(1, 12, 0, write)], ['client', p.encodeMessage(1, 12, 1, NOTHING)]), { timeoutMs: 100 });
    expect(whys(result)).toEqual([expect.stringContaining('which the recording does not have') as string, 'the server does not send it']);
  });

  it('of large answers one after the other holds one at a time', async () => {
    const rounds = Math.ceil(MAX_REPLAY_BACKLOG_BYTES / (8 << 20)) + 2;
    const large = new Uint8Array(8 << 20);
    const result = await against(async (server) => {
      for (let id = 0; id < rounds; id++) {
        await until(() => { server.read(); return server.got.length === 16 * (id + 1); }, 'the command');
        await server.send(p.encodeMessage(id, 13, 1, large));
      }
    }, recording(...Array.from({ length: rounds }, (_, id) => [['client', p.encodeMessage(id, 13, 0, NOTHING)], ['server', p.encodeMessage(id, 13, 1, NOTHING)]] as const).flat()));
    expect(result.compared).toBe(rounds);
    expect(whys(result)).not.toContainEqual(expect.stringContaining('not asked for'));
  });
});
