/**
 * The server's spin, seen from below: client and server share a thread here, so a client "sends while the server looks" by sending
 * from inside the server's own receive. Looks are counted, never timed.
 */
import { linux, type Sys } from '@emudev/linux';
import { expect, it } from 'vitest';
import { FakeDevice, serve, type Served } from './fixture.ts';
import { fields, message } from './raw-client.ts';

const [GET_INFO, WRITE] = [4, 10];
const info = fields(16, 0, 0, 0);
/** Long enough that a slow machine does not end a spin before the test has had its say. */
const SPIN = { maxUs: 50_000, denseMessages: 4 };

/** Looks of the server, by the outcome; `onDry` runs inside one that found nothing. */
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

const ask = (s: Served<FakeDevice>): void => { s.client.send(message(1, GET_INFO, info)); };
const loopTurns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
};
/** Requests one after the other until the traffic is dense. */
async function warmUp(s: Served<FakeDevice>): Promise<void> {
  for (let i = 0; i < 2 * SPIN.denseMessages; i++) expect(await s.client.errno(GET_INFO, info)).toBe(0);
}

it('a request that comes while the server looks again is answered at once, without a turn of the event loop', async () => {
  const looks = new Looks();
  await using s = await serve({ server: { sys: looks.sys, spin: SPIN } });
  await warmUp(s);
  let sent = 0;
  const answeredBy: number[] = [];
  let loop = 0;
  const count = (): void => {
    loop++;
    if (sent < 20) setImmediate(count);
  };
  setImmediate(count);
  looks.onDry = () => {
    if (sent < 20) {
      sent++;
      answeredBy.push(loop);
      ask(s);
    }
  };
  ask(s);
  for (let i = 0; i < 21; i++) expect((await s.client.next()).errno).toBe(0);
  // Twenty requests, each sent when the one before was answered: several within one turn of the loop.
  expect(new Set(answeredBy).size).toBeLessThan(20);
});

it('idle: it looks for a while, then not at all', async () => {
  const looks = new Looks();
  await using s = await serve({ server: { sys: looks.sys, spin: { maxUs: 1000, denseMessages: 4 } } });
  await warmUp(s);
  for (let before = -1; before !== looks.total;) {
    before = looks.total;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { total } = looks;
  await loopTurns(1000);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(looks.total).toBe(total);
  expect(await s.client.errno(GET_INFO, info)).toBe(0);
});

it('switched off: one look finds nothing, and the event loop waits', async () => {
  const looks = new Looks();
  await using s = await serve({ server: { sys: looks.sys, spin: false } });
  await warmUp(s);
  await loopTurns(10);
  const { dry } = looks;
  expect(await s.client.errno(GET_INFO, info)).toBe(0);
  await loopTurns(10);
  expect(looks.dry).toBe(dry + 1);
});

it('two busy devices are looked at in turn: a request to either is answered while the other one is busy', async () => {
  const looks = new Looks();
  await using a = await serve({ server: { sys: looks.sys, spin: SPIN } });
  await using b = await serve({ server: { sys: looks.sys, spin: SPIN } });
  for (let i = 0; i < 2 * SPIN.denseMessages; i++) for (const s of [a, b]) expect(await s.client.errno(GET_INFO, info)).toBe(0);
  // Both are kept busy by requests that come while the thread looks at whichever.
  const sent = { a: 0, b: 0 };
  looks.onDry = () => {
    if (sent.a > sent.b) { if (sent.b < 20) { sent.b++; ask(b); } } else if (sent.a < 20) { sent.a++; ask(a); }
  };
  ask(a);
  for (let i = 0; i < 20; i++) expect([(await a.client.next()).errno, (await b.client.next()).errno]).toEqual([0, 0]);
});

it('a device that is never idle keeps neither timers nor an idle neighbour waiting', async () => {
  const looks = new Looks();
  await using busy = await serve({ server: { sys: looks.sys, spin: SPIN } });
  await using quiet = await serve({ server: { spin: SPIN } });
  await warmUp(busy);
  let on = true;
  let answered = 0;
  looks.onDry = () => { if (on) ask(busy); };
  ask(busy);
  void (async () => {
    while (on) {
      await busy.client.next();
      answered++;
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 10));
  for (let i = 0; i < 5; i++) expect(await quiet.client.errno(GET_INFO, info)).toBe(0);
  on = false;
  expect(answered).toBeGreaterThan(5);
  // The last answer, for whoever waits above.
  ask(busy);
  await loopTurns(5);
});

it('a device that answers by a promise is answered for', async () => {
  const looks = new Looks();
  const device = new FakeDevice();
  device.write = async () => { await Promise.resolve(); };
  await using s = await serve({ device, server: { sys: looks.sys, spin: SPIN } });
  await warmUp(s);
  for (let i = 0; i < 20; i++) expect(await s.client.errno(WRITE, fields(0n, 0, 4, i))).toBe(0);
});

it('a client that leaves while it is looked for is detached', async () => {
  const looks = new Looks();
  const s = await serve({ server: { sys: looks.sys, spin: SPIN } });
  await warmUp(s);
  let left = false;
  looks.onDry = () => {
    if (left) return;
    left = true;
    s.client.close();
  };
  ask(s);
  while (s.server.session !== undefined) await loopTurns(1);
  expect(s.device.log.at(-2)).toMatch(/^detach /);
  const { total } = looks;
  await loopTurns(20);
  expect(looks.total).toBe(total);
  await s.server.close();
});
