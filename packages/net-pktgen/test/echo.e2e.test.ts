/** The port against a real echo host, through real lcores. */
import { expect, test } from 'vitest';
import { Quiescence, Window } from '@emudev/dma';
import { Forwarding, LcorePool } from '@emudev/ethdev';
import { EchoPort } from '@emudev/net-echo';
import { driver, type PktgenPort } from '@emudev/net-pktgen';
import { EmudevRegistry, parseArgs, parseVdev } from '@emudev/emudev';

async function until(condition: () => boolean, what: () => string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${what()}`);
    await new Promise(setImmediate);
  }
}

test.each([[60, 256], [1514, 7]])('frames of %i bytes, window of %i: resolved, pinged, 100000 questions each answered right', async (size, open) => {
  await using undo = new AsyncDisposableStack();
  const window = undo.use(Window.open());
  const quiescence = undo.use(new Quiescence(window));
  const { name, pairs } = parseVdev(`net_pktgen0,size=${size},window=${open},interval=1`);
  const pktgen: PktgenPort = await driver.probe(name, parseArgs(driver.args, pairs), { findEmudev: () => undefined, registry: new EmudevRegistry() });
  undo.defer(() => pktgen.close());
  const echo = new EchoPort('net_echo0');
  undo.defer(() => echo.close());
  const pool = undo.use(await LcorePool.start(1, { window, quiescence }));
  const forwarding = new Forwarding(pool);
  undo.defer(() => forwarding.stop());
  await forwarding.start([{ a: pktgen, b: echo }]);
  const told = (): string => JSON.stringify(pktgen.report());

  pktgen.setPhase('ping', 5);
  await until(() => pktgen.report().pings.answered === 5, told);
  for (let i = 1; i <= 5; i++) expect(pktgen.rttMicroseconds(i)).toBeGreaterThan(0);

  pktgen.setPhase('traffic');
  await until(() => pktgen.report().rx.packets >= 100_000, told);
  pktgen.setPhase('drain');
  await until(() => pktgen.report().rx.packets === pktgen.report().tx.packets, told);
  const { tx, rx, lost, wrong, pings } = pktgen.report();
  expect({ lost, wrong, pings }).toEqual({ lost: 0, wrong: 0, pings: { sent: 5, answered: 5 } });
  expect(rx.bytes).toBe(tx.packets * size);
  expect(echo.stats().opackets).toBeGreaterThanOrEqual(BigInt(tx.packets));
});
