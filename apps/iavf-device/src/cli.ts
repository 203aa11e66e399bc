#!/usr/bin/env node
/** The `iavf-device` program: parse, launch, say what is served, wait for a signal, close. */
import { VdevBus } from '@emudev/emudev';
import { HelpRequested, parseArguments, UsageError, type Plan } from './arguments.ts';
import { driverCatalog, Launcher } from './launcher.ts';
import { createLogger, type Logger } from './log.ts';
import { logEvents } from './log-events.ts';
import { wiring } from './wiring.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** One line, whatever the error: a stack trace helps nobody who mistyped a path. */
function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}

function logStatistics(launcher: Launcher, log: Logger): void {
  for (const [name, port] of launcher.ports) {
    const { ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors } = port.stats();
    log.info({ port: name, ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors }, 'statistics');
  }
  for (const { rxPort, txPort, dropped } of launcher.report()) if (dropped > 0n) log.info({ from: rxPort, to: txPort, dropped }, 'frames the far end did not take');
}

async function serve(plan: Plan): Promise<void> {
  const log = createLogger(plan);
  using _events = logEvents(log);
  const launcher = await Launcher.start(plan);
  launcher.onEvent((event) => { log.error(event, 'lcore'); });
  const ended = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        // The second signal means now.
        process.once(signal, () => process.exit(EXIT_FAILED));
        resolve(signal);
      });
    }
  });
  for (const { name, path } of launcher.served) console.log(path === undefined ? `${name} is served on the descriptor it was handed` : wiring(name, path));
  const ticker = plan.statsPeriod === 0 ? undefined : setInterval(() => { logStatistics(launcher, log); }, plan.statsPeriod * 1000);
  log.info({ signal: await ended }, 'closing');
  clearInterval(ticker);
  logStatistics(launcher, log);
  await launcher.close();
}

try {
  const argv = process.argv.slice(2);
  const wantsHelp = argv.includes('--help') || argv.includes('-h');
  await serve(parseArguments(argv, wantsHelp ? await new VdevBus({ catalog: driverCatalog() }).help() : ''));
  process.exitCode = 0;
} catch (error) {
  if (error instanceof HelpRequested) {
    console.log(error.message);
  } else {
    console.error(`iavf-device: ${oneLine(error)}`);
    const atStart = error instanceof UsageError || (typeof error === 'object' && error !== null && 'code' in error);
    process.exitCode = atStart ? EXIT_USAGE : EXIT_FAILED;
  }
}
