#!/usr/bin/env node
/** The `iavf-device` program: parse, launch, say what is served, wait for a signal, close. */
import { resolve } from 'node:path';
import { VdevBus } from '@emudev/emudev';
import { HelpRequested, parseArguments, UsageError, type Plan } from './arguments.ts';
import { ctl } from './control/ctl.ts';
import { ControlServer } from './control/server.ts';
import { driverCatalog, Launcher } from './launcher.ts';
import { createLogger, type Logger } from './log.ts';
import { lcoreAdvice } from './lcore-advice.ts';
import { logEvents, logHotPlug } from './log-events.ts';
import { wiring } from './wiring.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A terminal's Ctrl-C reaches the whole process group, and those who started us pass it on: the same wish twice. */
const SAME_SIGNAL_MS = 1000;

/** One line, whatever the error: a stack trace helps nobody who mistyped a path. */
function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}

function logStatistics(launcher: Launcher, log: Logger): void {
  for (const [name, port] of launcher.ports) {
    const { ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors } = port.stats();
    log.info({ port: name, ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors }, 'statistics');
    if (!log.isLevelEnabled('debug')) continue;
    const counted = [...port.xstats()].filter(([, value]) => value !== 0n);
    if (counted.length > 0) log.debug({ port: name, ...Object.fromEntries(counted) }, 'extended statistics, those that are not zero');
  }
  for (const { ports } of launcher.switches) {
    for (const { port, ...counters } of ports) log.info({ port, ...Object.fromEntries(Object.entries(counters).filter(([, value]) => BigInt(value) !== 0n)) }, 'switch');
  }
  for (const { rxPort, txPort, dropped } of launcher.report()) if (dropped > 0n) log.info({ from: rxPort, to: txPort, dropped }, 'frames the far end did not take');
}

/** Resolves with the first signal that asks us to end; another one, later, means now. SIGHUP: the terminal was closed. */
function endSignal(): Promise<NodeJS.Signals> {
  return new Promise((ask) => {
    let first: number | undefined;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (first !== undefined && performance.now() - first > SAME_SIGNAL_MS) process.exit(EXIT_FAILED);
        first ??= performance.now();
        ask(signal);
      });
    }
  });
}

async function serve(plan: Plan): Promise<void> {
  const log = createLogger(plan);
  using _events = logEvents(log);
  // Before anything is made that a signal would leave behind.
  const ended = endSignal();
  await using launcher = await Launcher.start(plan);
  for (const advice of lcoreAdvice(plan.lcores)) log.warn({ lcores: plan.lcores.length }, advice);
  launcher.onEvent((event) => { log.error(event, 'lcore'); });
  // Where a guest's bytes come out of standard output, nothing else does.
  const say = launcher.bus.list().some(({ device }) => device.ownsStdio === true) ? console.error : console.log;
  for (const { name, path, connected } of launcher.served) {
    say(path === undefined ? `${name} is served on the descriptor it was handed` : wiring(name, resolve(path)));
    if (!connected) log.warn({ device: name }, 'a card without link: it needs a back end (--vdev net_iavf_be0,emu=…) and a far end (--forward net_iavf_be0=…)');
  }
  for (const { name, device } of launcher.bus.list()) if (device.place !== undefined) say(`${name} is at ${device.place}`);
  await using control = plan.control === undefined ? undefined : await ControlServer.listen(plan.control, launcher);
  if (control !== undefined) say(`control socket: listens on ${resolve(control.path)}`);
  using _hotPlug = logHotPlug(log);
  const ticker = plan.statsPeriod === 0 ? undefined : setInterval(() => { logStatistics(launcher, log); }, plan.statsPeriod * 1000);
  log.info({ signal: await ended }, 'closing');
  clearInterval(ticker);
  logStatistics(launcher, log);
}

try {
  const argv = process.argv.slice(2);
  const wantsHelp = argv.includes('--help') || argv.includes('-h');
  if (argv[0] === 'ctl') {
    process.exitCode = await ctl(argv.slice(1));
  } else {
    await serve(parseArguments(argv, wantsHelp ? await new VdevBus({ catalog: driverCatalog() }).help() : ''));
    process.exitCode = 0;
  }
} catch (error) {
  if (error instanceof HelpRequested) {
    console.log(error.message);
  } else {
    console.error(`iavf-device: ${oneLine(error)}`);
    const atStart = error instanceof UsageError || (typeof error === 'object' && error !== null && 'code' in error);
    process.exitCode = atStart ? EXIT_USAGE : EXIT_FAILED;
  }
}
