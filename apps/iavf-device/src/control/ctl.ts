/** `iavf-device ctl PATH COMMAND …`: the control socket for people and shell scripts. */
import { Command, CommanderError } from 'commander';
import { wiring } from '../wiring.ts';
import { ControlClient } from './client.ts';
import type { Counters, DeviceDescription } from './describe.ts';
import { ControlError } from './errors.ts';

const EXIT_OK = 0;
const EXIT_REFUSED = 1;
const EXIT_USAGE = 2;
const EXIT_NO_CONNECTION = 3;

const EXAMPLES = `
Examples:
  iavf-device ctl /run/emudev.ctl list
  iavf-device ctl /run/emudev.ctl plug emu_edu1,path=/run/edu1.sock
  iavf-device ctl /run/emudev.ctl plug emu_iavf1,path=/run/vm1.sock net_iavf_be1,emu=emu_iavf1 net_tap1,iface=dtap1 --forward net_iavf_be1=net_tap1
  iavf-device ctl /run/emudev.ctl unplug emu_iavf1 --force
  iavf-device ctl /run/emudev.ctl set emu_iavf0 mac 52:54:00:00:00:09

Exit codes: 0 done, 1 the device process said no, 2 wrong usage, 3 cannot connect.`;

interface Asked {
  readonly request: Readonly<Record<string, unknown>>;
  readonly json: boolean;
  /** A good answer for people. */
  text(result: never): string;
}

const done = (): string => '';

function describeAll({ devices, pairs }: { devices: readonly DeviceDescription[]; pairs: readonly string[] }): string {
  const rows = devices.map((d) => [
    d.name,
    d.class,
    d.state ?? (d.link === undefined ? '-' : `link ${d.link}`),
    [
      d.consumer === undefined ? undefined : `consumer ${d.consumer}${d.client === undefined ? '' : ` (${d.client})`}`,
      d.path,
      d.place === undefined ? undefined : `at ${d.place}`,
      d.users === undefined ? undefined : `used by ${d.users.join(', ')}`,
      d.connectedTo === undefined ? undefined : d.connectedTo === d.name ? 'looped back' : `connected to ${d.connectedTo}`,
    ].filter((part) => part !== undefined).join(', '),
  ]);
  return [...table([['DEVICE', 'CLASS', 'STATE', ''], ...rows]), ...(pairs.length === 0 ? [] : [`pairs: ${pairs.join(', ')}`])].join('\n');
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd());
}

const pairsOf = (entries: Readonly<Record<string, unknown>>): string => table(Object.entries(entries).map(([name, value]) => [name, value === null ? '(no text form)' : String(value)])).join('\n');

function program(asked: (what: Asked) => void): Command {
  const top = new Command('iavf-device ctl PATH').description('Asks a device process that runs with --control PATH.').addHelpText('after', EXAMPLES);
  const add = (usage: string, summary: string, make: (args: readonly (string | readonly string[] | undefined)[], options: Readonly<Record<string, unknown>>) => Record<string, unknown>, text: (result: never) => string): Command =>
    top.command(usage).description(summary).option('--json', 'print the answer as the JSON line it is').action((...given: unknown[]) => {
      const command = given.pop() as Command;
      const options = command.opts<Readonly<Record<string, unknown>>>();
      const request = make(given.slice(0, -1) as (string | string[] | undefined)[], options);
      asked({ request: { command: command.name(), ...request }, json: options['json'] === true, text });
    });
  add('list', 'the devices there are', () => ({}), describeAll);
  add('plug <vdev...>', 'make devices, as --vdev writes them: all or none', ([vdev], { forward }) => ({ vdev, ...(forward === undefined ? {} : { forward }) }), ({ plugged }: { plugged: readonly { name: string; path?: string; place?: string }[] }) =>
    plugged.map(({ name, path, place }) => (path === undefined ? `${name} is ${place === undefined ? 'there' : `at ${place}`}` : wiring(name, path))).join('\n'))
    .option('--forward <pair>', 'ports to connect once they are there (repeatable)', (pair: string, before: readonly string[] = []) => [...before, pair]);
  add('unplug <device...>', 'take devices out', ([device], { force }) => ({ device, ...(force === true ? { force } : {}) }), done)
    .option('--force', 'also while they are in use: back ends go, too, pairs are disconnected, the connection of a virtual machine is cut');
  add('restart <device>', 'stop and start an emulated device', ([device]) => ({ device }), done);
  add('reset <device>', 'reset an emulated device under its guest', ([device]) => ({ device }), done);
  add('connect <pair>', 'connect two ports, A=B, loop one back, A, or make a switch, A+B+C', ([pair]) => ({ pair }), done);
  add('disconnect <pair>', 'end a connection', ([pair]) => ({ pair }), done);
  add('attributes <device>', 'the attributes of an emulated device', ([device]) => ({ device }), (attributes) => pairsOf(attributes) || 'none');
  add('get <device> <attribute>', 'one attribute', ([device, attribute]) => ({ device, attribute }), ({ value }: { value: string }) => value);
  add('set <device> <attribute> <value>', 'give an attribute another value', ([device, attribute, value]) => ({ device, attribute, value }), ({ value }: { value: string }) => value);
  add('self-test <device>', 'what an emulated device thinks of itself', ([device]) => ({ device }), ({ passed, checks }: { passed: boolean; checks: readonly { name: string; passed: boolean; text: string }[] }) =>
    [...table(checks.map((check) => [check.passed ? 'ok' : 'FAILED', check.name, check.text])), passed ? 'passed' : 'FAILED'].join('\n'));
  add('stats [port]', 'the counters of the ports, or of one', ([port]) => (port === undefined ? {} : { port }), ({ ports }: { ports: Readonly<Record<string, Counters>> }) =>
    Object.entries(ports).map(([name, counters]) => `${name}\n${pairsOf(counters).replaceAll(/^/gm, '  ')}`).join('\n'));
  add('switches', 'what became of frames at each port of a switch', (_, { addresses }) => (addresses === true ? { addresses } : {}), ({ switches }: { switches: readonly { ports: Readonly<Record<string, Counters>>; addresses?: Readonly<Record<string, string>> }[] }) =>
    switches.map(({ ports, addresses }) => [Object.keys(ports).join('+'), ...Object.entries(ports).map(([name, counters]) => `${name}\n${pairsOf(counters).replaceAll(/^/gm, '  ')}`), ...(addresses === undefined ? [] : [pairsOf(addresses)])].join('\n')).join('\n') || 'none')
    .option('--addresses', 'also where each address is');
  add('drivers [driver]', 'what can be plugged in, and what it takes', ([driver]) => (driver === undefined ? {} : { driver }), ({ text }: { text: string }) => text);
  return top;
}

/** `argv` begins with the socket's path. Returns the exit code; prints what there is to say. */
export async function ctl(argv: readonly string[]): Promise<number> {
  let asked: Asked | undefined;
  const top = program((what) => { asked = what; });
  for (const command of [top, ...top.commands]) command.exitOverride().configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, 'iavf-device ctl: ')); } });
  const [path, ...rest] = argv;
  try {
    if (path === undefined || path.startsWith('-')) top.parse(['--help'], { from: 'user' });
    top.parse(rest.length === 0 ? ['--help'] : [...rest], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const askedForHelp = argv.includes('--help') || argv.includes('-h') || argv.includes('help');
    return error.exitCode === 0 && askedForHelp ? EXIT_OK : EXIT_USAGE;
  }
  if (path === undefined || asked === undefined) return EXIT_USAGE;
  try {
    using client = await ControlClient.connect(path);
    const answer = await client.ask(asked.request);
    if (asked.json) console.log(JSON.stringify(answer));
    else if (!answer.ok) console.error(`iavf-device ctl: ${answer.error.message}`);
    else print(asked.text(answer.result as never));
    return answer.ok && !failedTest(answer.result) ? EXIT_OK : EXIT_REFUSED;
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    console.error(`iavf-device ctl: ${error.message}`);
    return EXIT_NO_CONNECTION;
  }
}

function print(text: string): void {
  if (text !== '') console.log(text);
}

/** A self-test that found something wrong is a good answer, and no good news. */
const failedTest = (result: unknown): boolean => typeof result === 'object' && result !== null && 'passed' in result && result.passed === false;
