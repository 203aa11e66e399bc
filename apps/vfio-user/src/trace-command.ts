/** `vfio-user trace LISTEN CONNECT` and `vfio-user wireshark`. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Option, type Command } from 'commander';
import { CommandError, EXIT_DEVICE, usage } from './exit.ts';
import { captureStart } from './pcapng/capture.ts';
import { CONFIG_REGISTERS } from './trace/config-registers.ts';
import { DictionaryError, readDictionary, RegisterNames, type DeviceDictionary } from './trace/dictionary.ts';
import { makeFilter, type FilterOptions } from './trace/filter.ts';
import type { Exchange } from './trace/exchanges.ts';
import { Formatter } from './trace/format.ts';
import { FileSink } from './trace/output.ts';
import { Counting, JsonPrinter, TextPrinter, type TimeStyle } from './trace/printers.ts';
import { TraceProxy, type ProxyOptions } from './trace/proxy.ts';
import { Summary } from './trace/summary.ts';
import { Tracer, type ExchangeSink } from './trace/tracer.ts';
import type { Side } from './trace/observed.ts';

interface TraceOptions {
  readonly filter?: readonly string[];
  readonly region?: readonly string[];
  readonly irq?: readonly string[];
  readonly errors?: true;
  readonly slowerThan?: number;
  readonly from?: Side;
  readonly dictionary?: readonly string[];
  readonly output?: string;
  readonly pcapng?: string;
  readonly json?: true;
  readonly summary?: true;
  readonly summaryOnly?: true;
  readonly absolute?: true;
  readonly delta?: true;
  readonly bytes: number;
  readonly spin: number;
}

const collect = (value: string, before: readonly string[] = []): string[] => [...before, ...value.split(',')];

export function traceCommand(program: Command): void {
  program.command('trace').argument('<listen>', 'socket to make for clients').argument('<connect>', 'socket of the server')
    .description('pass everything on between clients and a server, unchanged, and show it')
    .option('--filter <globs>', 'commands to show, e.g. "REGION_*,!REGION_READ"', collect)
    .option('--region <names>', 'accesses to these regions: BAR0 .. BAR5, ROM, CONFIG, VGA, or numbers', collect)
    .option('--irq <names>', 'interrupts: INTX, MSI, MSIX, ERR, REQ, or numbers', collect)
    .option('--errors', 'only what failed')
    .option('--slower-than <time>', 'only what took longer, e.g. 500us, 1ms, 2s', parseDuration)
    .addOption(new Option('--from <side>', 'only commands that this side sends').choices(['client', 'server']))
    .option('--dictionary <file>', 'names of registers (JSON; repeat for several)', (value: string, before: readonly string[] = []) => [...before, value])
    .option('-o, --output <file>', 'write the lines there')
    .option('--pcapng <file>', 'capture everything, for Wireshark and for replay; "-" is standard output')
    .option('--json', 'one JSON object per line')
    .option('--summary', 'a table of counts and latencies at the end')
    .option('--summary-only', 'the table and no lines')
    .option('--absolute', 'time of day (UTC) instead of seconds since the start')
    .option('--delta', 'seconds since the line before')
    .option('--bytes <n>', 'bytes of data to show', parseCount('--bytes'), 32)
    .option('--spin <us>', 'longest time to look for the next message before sleeping; 0: none', parseCount('--spin'), 100)
    .addHelpText('after', `
Examples:
  vfio-user trace /tmp/t.sock /run/device.sock          then let the client connect to /tmp/t.sock
  vfio-user trace t.sock d.sock --region BAR0 --dictionary iavf.json
  vfio-user trace t.sock d.sock --errors --summary -o log
  vfio-user trace t.sock d.sock --pcapng - | wireshark -k -i - -X lua_script:$(vfio-user wireshark --path)
Ctrl-C ends it.`)
    .action((listen: string, connect: string, options: TraceOptions) => trace(listen, connect, options));

  program.command('wireshark').description('where the dissector for captures is, and how to use it')
    .option('--path', 'only the path')
    .action(({ path: only }: { readonly path?: true }) => {
      const path = fileURLToPath(new URL('../wireshark/vfio-user.lua', import.meta.url));
      process.stdout.write(only === true ? `${path}\n` : `${path}

  tshark -X lua_script:${path} -r FILE
  wireshark -X lua_script:${path} FILE

or copy it to the personal Lua plugins (Help > About Wireshark > Folders). It claims the link type of captures (147, USER0) by itself.
`);
    });
}

async function trace(listen: string, connect: string, options: TraceOptions): Promise<void> {
  if (options.absolute === true && options.delta === true) throw usage('--absolute and --delta exclude each other');
  if (resolve(listen) === resolve(connect)) throw usage(`LISTEN and CONNECT are both ${listen}: the trace would talk to itself`);
  const captureToStdout = options.pcapng === '-';
  if (captureToStdout && (options.output ?? '-') === '-' && options.summaryOnly !== true) {
    throw usage('with the capture on standard output the lines need a file (-o), or none at all (--summary-only)');
  }
  const names = new RegisterNames((options.dictionary ?? []).flatMap(loadDictionary), CONFIG_REGISTERS);
  const filter = filterOf({
    ...(options.filter === undefined ? {} : { commands: options.filter }),
    ...(options.region === undefined ? {} : { regions: options.region }),
    ...(options.irq === undefined ? {} : { irqs: options.irq }),
    ...(options.errors === undefined ? {} : { errorsOnly: true }),
    ...(options.slowerThan === undefined ? {} : { slowerThanMs: options.slowerThan }),
    ...(options.from === undefined ? {} : { from: options.from }),
  });
  const filtered = [options.filter, options.region, options.irq, options.errors, options.slowerThan, options.from].some((option) => option !== undefined);
  const formatter = new Formatter(names, options.bytes);
  let failed = false;
  const complain = (message: string): void => {
    failed = true;
    process.stderr.write(`vfio-user: ${message}\n`);
  };

  using stack = new DisposableStack();
  const sinks: ExchangeSink[] = [];
  if (options.summaryOnly !== true) {
    const out = stack.use(new FileSink(options.output ?? '-', complain));
    const time: TimeStyle = options.absolute === true ? 'absolute' : options.delta === true ? 'delta' : 'relative';
    const colors = options.output === undefined && (process.stdout.isTTY as boolean | undefined) === true && process.env['NO_COLOR'] === undefined;
    sinks.push(options.json === true ? new JsonPrinter(out, formatter, filter) : new TextPrinter(out, formatter, filter, { time, colors, startMs: performance.now(), notes: !filtered }));
  }
  const summary = options.summary === true || options.summaryOnly === true ? new Summary() : undefined;
  if (summary !== undefined) sinks.push(new Counting(summary, filter));
  const capture = options.pcapng === undefined ? undefined : stack.use(new FileSink(options.pcapng, complain));
  if (capture !== undefined) {
    for (const block of captureStart(listen, connect)) capture.write(block);
    capture.flush();
  }
  const ended = endSignal();
  const tracer = stack.use(new Tracer({ sinks, ...(capture === undefined ? {} : { capture }) }));
  stack.use(openProxy({ listen, connect, observer: tracer, spinUs: options.spin }));
  process.stderr.write(`vfio-user: clients that connect to ${listen} reach ${connect}\n`);
  await ended;
  stack.dispose();
  if (summary !== undefined) process.stderr.write(summary.table());
  if (failed) throw new CommandError(EXIT_DEVICE, 'the output is not complete');
}

function filterOf(options: FilterOptions): (exchange: Exchange) => boolean {
  try {
    return makeFilter(options);
  } catch (error) {
    if (error instanceof RangeError) throw usage(error.message);
    throw error;
  }
}

function openProxy(options: ProxyOptions): TraceProxy {
  try {
    return new TraceProxy(options);
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

function loadDictionary(file: string): DeviceDictionary[] {
  try {
    return readDictionary(bundled(file) ?? file);
  } catch (error) {
    if (error instanceof DictionaryError) throw usage(`--dictionary: ${error.message}`);
    throw error;
  }
}

/** 'iavf' means the dictionary of that name that comes with this program. */
function bundled(name: string): string | undefined {
  if (!/^[a-z0-9-]+$/.test(name)) return undefined;
  const path = fileURLToPath(new URL(`../dictionaries/${name}.json`, import.meta.url));
  try {
    readFileSync(path);
    return path;
  } catch {
    return undefined;
  }
}

/** Milliseconds of '500us', '1ms', '2s'. */
function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(us|µs|ms|s)$/.exec(text);
  if (match === null) throw usage(`--slower-than takes a time like 500us, 1ms or 2s, not "${text}"`);
  return Number(match[1]) * { us: 0.001, µs: 0.001, ms: 1, s: 1000 }[match[2] as 'us' | 'µs' | 'ms' | 's'];
}

function parseCount(option: string): (text: string) => number {
  return (text) => {
    if (!/^\d{1,7}$/.test(text)) throw usage(`${option} takes a number, not "${text}"`);
    return Number(text);
  };
}

/** Resolves with the first signal that asks us to end. */
function endSignal(): Promise<void> {
  return new Promise((done) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => { done(); });
  });
}
