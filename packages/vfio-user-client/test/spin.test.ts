/** Looking for answers instead of sleeping: looks are counted, never timed. */
import { linux } from '@emudev/linux';
import type { Sys } from '@emudev/linux';
import * as p from '@emudev/vfio-user-protocol';
import { expect, test } from 'vitest';
import type { ConnectOptions } from '../src/index.ts';
import { attach } from './fake-server.ts';
import type { Attached } from './fake-server.ts';

const SPIN = { maxUs: 50_000, denseMessages: 4 };

class Looks {
  total = 0;
  dry = 0;
  onDry: () => void = () => undefined;
  readonly sys: Sys = {
    ...linux,
    recvmsg: (socket, into, maxFds) => {
      this.total++;
      const got = linux.recvmsg(socket, into, maxFds);
      if (got === undefined) {
        this.dry++;
        this.onDry();
      }
      return got;
    },
  };
}

/** A device of one register; where `held` is given, answers wait there for the test to send them. */
const served = (options: ConnectOptions, held?: (() => void)[]): Promise<Attached> => attach((frame, server) => {
  const access = p.decodeRegionRead(frame.payload, 64);
  const message = p.newRegionReadReply(frame.id, access);
  if (held === undefined) server.send(message);
  else held.push(() => { server.send(message); });
}, options);
const loopTurns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('requests in close succession are answered while the client looks for the answers', async () => {
  const looks = new Looks();
  const held: (() => void)[] = [];
  using at = await served({ sys: looks.sys, spin: SPIN }, held);
  // The server answers inside a look of the client that finds nothing: nobody else could find the answer but the next look.
  let found = 0;
  looks.onDry = () => {
    const answer = held.shift();
    if (answer === undefined) return;
    found++;
    answer();
  };
  for (let i = 0; i < 40; i++) {
    let answered = false;
    const reading = at.client.read32(0, 0).then((value) => {
      answered = true;
      expect(value).toBe(0);
    });
    // Until the traffic is dense the client sleeps, and does not look.
    while (i < 2 * SPIN.denseMessages && !answered) {
      await loopTurns(1);
      held.shift()?.();
    }
    await reading;
  }
  expect(found).toBeGreaterThan(20);
});

test('a client that waits for nothing does not look', async () => {
  const looks = new Looks();
  using at = await served({ sys: looks.sys, spin: SPIN });
  for (let i = 0; i < 20; i++) await at.client.read32(0, 0);
  await loopTurns(5);
  const { total } = looks;
  await loopTurns(100);
  expect(looks.total).toBe(total);
  expect(await at.client.read32(0, 0)).toBe(0);
});

test('off by default: nothing is looked for', async () => {
  const looks = new Looks();
  using at = await served({ sys: looks.sys });
  for (let i = 0; i < 20; i++) await at.client.read32(0, 0);
  await loopTurns(5);
  // Each wake-up takes what is there, and finds that nothing is left.
  const { dry } = looks;
  const reading = at.client.read32(0, 0);
  await loopTurns(50);
  expect(await reading).toBe(0);
  expect(looks.dry).toBeLessThanOrEqual(dry + 1);
});

test('closing while it looks ends it', async () => {
  const looks = new Looks();
  const at = await served({ sys: looks.sys, spin: SPIN });
  for (let i = 0; i < 20; i++) await at.client.read32(0, 0);
  at.server.deafen();
  const reading = at.client.read32(0, 0);
  at.client.close();
  await expect(reading).rejects.toMatchObject({ code: 'ERR_VFU_CLIENT_CLOSED' });
  const { total } = looks;
  await loopTurns(20);
  expect(looks.total).toBe(total);
  at.server.close();
});
