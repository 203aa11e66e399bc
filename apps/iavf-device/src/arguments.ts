/**
 * The command line. Everything it can say becomes one `Plan`: devices by their vdev text, pairs to forward between, and how to run
 * them. Short cuts (`--socket`, `--tap`, …) are only other spellings of vdevs and a pair.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { ENGINE_NAMES, IDLE_LATENCY_US, MAX_CPU, MAX_IDLE_LATENCY_US, MAX_LCORES, type EngineName } from '@emudev/ethdev';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export const UNSEALED_MEMORY = ['map', 'refuse'] as const;
export const FAR_ENDS = ['echo', 'null', 'loop', 'switch'] as const;

export interface Plan {
  /** `name,key=value…` in probe order. `path=` and `fd=` of an emulated device say where it is served. */
  readonly vdevs: readonly string[];
  /** `A=B`, `A` or `A+B+C`. */
  readonly pairs: readonly string[];
  readonly engine: EngineName;
  /** Polling threads: one for each entry, the number of the processor it is bound to; undefined: the scheduler chooses. */
  readonly lcores: readonly (number | undefined)[];
  /** Microseconds between two looks of an idle lcore at its guests' doorbells. */
  readonly idleLatencyUs: number;
  readonly burst: number | undefined;
  /** What becomes of a guest whose memory its VMM could truncate under us. */
  readonly unsealedMemory: (typeof UNSEALED_MEMORY)[number];
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly logFormat: 'pretty' | 'json';
  /** Seconds between lines of statistics; 0 = none. */
  readonly statsPeriod: number;
  /** UNIX socket for requests at run time. */
  readonly control: string | undefined;
}

/** A command line that cannot be carried out: one line for the user, exit code 2. */
export class UsageError extends Error {
  readonly code = 'ERR_USAGE';
  override readonly name = 'UsageError';
}

interface Flags {
  vdev?: string[];
  forward?: string[];
  forwardMode: EngineName;
  socket?: string[];
  socketPath?: string[];
  fd?: number[];
  tap?: string[];
  far: (typeof FAR_ENDS)[number] | undefined;
  rxPcap: string | undefined;
  txPcap: string | undefined;
  queues: string | undefined;
  mac: string | undefined;
  doorbell: string | undefined;
  lcores: Plan['lcores'];
  idleLatency: number;
  burst: number | undefined;
  unsealedMemory: Plan['unsealedMemory'];
  logLevel: Plan['logLevel'];
  logFormat: Plan['logFormat'];
  stats: number;
  control: string | undefined;
}

/** For repeatable options: a default would be printed in the help. */
const collect = (value: string, previous: readonly string[] = []): string[] => {
  if (value === '') throw new InvalidArgumentError('It must not be empty.');
  return [...previous, value];
};

/** An argument parser for commander: whole numbers from `min` to `max`. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const n = Number(text);
    if (!/^\d+$/.test(text) || n < min || n > max) throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return n;
  };
}

/** `N`, or `0@CPU,1@CPU,…` as DPDK writes it: lcore 0 on that processor, lcore 1 on that one. */
export function lcoreList(text: string): Plan['lcores'] {
  if (!text.includes('@')) return Array.from({ length: integer(1, MAX_LCORES)(text) }, () => undefined);
  const cpus = new Map<number, number>();
  for (const entry of text.split(',')) {
    const [lcore, cpu] = /^(\d{1,2})@(\d{1,4})$/.exec(entry)?.slice(1).map(Number) ?? [];
    if (lcore === undefined || cpu === undefined || cpu > MAX_CPU || cpus.has(lcore)) throw new InvalidArgumentError(`It must be a number, or LCORE@PROCESSOR for each lcore, like 0@2,1@3; "${entry}" is not.`);
    cpus.set(lcore, cpu);
  }
  const all = Array.from({ length: cpus.size }, (_, lcore) => cpus.get(lcore));
  if (all.includes(undefined) || all.length > MAX_LCORES) throw new InvalidArgumentError(`Lcores are numbered from 0 without a gap, at most ${MAX_LCORES} of them.`);
  return all;
}

const EXAMPLES = `
Examples:
  iavf-device --socket /run/vm0.sock                     a card with a small host behind it (DHCP, ping, echo)
  iavf-device --socket /run/vm0.sock --tap dtap0         a card behind the TAP interface dtap0
  iavf-device --socket /run/vm0.sock --far loop --forward-mode macswap
  iavf-device --socket /run/vm0.sock --socket /run/vm1.sock --tap dtap0 --far switch
                                                         two cards and the host on one switch
  iavf-device --vdev 'emu_iavf0,path=/run/vm0.sock,queues=4,mac=52:54:00:00:00:01' \\
              --vdev 'net_iavf_be0,emu=emu_iavf0' --vdev 'net_tap0,iface=dtap0' --forward 'net_iavf_be0=net_tap0'
  iavf-device --vdev emu_serial0,path=/run/com.sock --vdev serial_be0,emu=emu_serial0,link=/tmp/com0
                                                         a serial card, its port a pseudo terminal
  iavf-device --vdev emu_edu0,path=/run/edu.sock --control /run/emudev.ctl
  iavf-device ctl /run/emudev.ctl plug emu_edu1,path=/run/edu1.sock                     another one, while it runs

Exit codes: 0 ended by SIGINT or SIGTERM, 1 a failure while running, 2 a command line that cannot be carried out.`;

/** `drivers`: help of the drivers there are, printed below the options. */
export function createProgram(drivers: string): Command {
  return new Command('iavf-device')
    .description('Emulated PCI devices for virtual machines, served over vfio-user: Intel iavf network cards, and what else is installed.')
    .addOption(new Option('-s, --socket <path>', 'serve a card on this UNIX socket (repeatable: one card each)').argParser(collect))
    .addOption(new Option('--socket-path <path>', 'the same, by the name the vfio-user specification uses').argParser(collect))
    .addOption(new Option('--fd <n>', 'serve a card on this inherited socket, listening or connected (repeatable)').argParser((t: string, p: readonly number[] = []) => [...p, integer(0, 0xffff)(t)]))
    .addOption(new Option('-t, --tap <iface>', 'connect the card to this TAP interface (repeatable: one for each card)').argParser(collect))
    .addOption(new Option('--far <what>', 'or what else is behind it: an embedded host, a hole that swallows all, the card itself, or a switch with all cards and the TAP interfaces on it (default: "echo")').choices(FAR_ENDS))
    .option('--rx-pcap <file>', 'or a capture file: the guest receives its frames')
    .option('--tx-pcap <file>', '… and what the guest sends is written to this one')
    .option('-q, --queues <n>', 'queue pairs of the card(s), 1 to 16 (default: 4)')
    .option('-m, --mac <address>', 'MAC address of the card (further cards: counted up; default: random)')
    .addOption(new Option('--doorbell <how>', 'doorbell pages: mapped into the guest, or trapped (default: "map")').choices(['map', 'trap']))
    .addOption(new Option('--vdev <device>', 'a device the DPDK way: name,key=value,… (repeatable; see below)').argParser(collect))
    .addOption(new Option('--forward <pair>', "ports to connect: 'A=B', 'A' to loop A back to itself, or 'A+B+C' for a learning switch (repeatable)").argParser(collect))
    .addOption(new Option('--forward-mode <engine>', 'what happens to frames on the way').choices(ENGINE_NAMES).default('io'))
    .addOption(new Option('--lcores <n>', 'polling threads, 1 to 64, or each with the processor it stays on, the DPDK way: 0@2,1@3').argParser(lcoreList).default([undefined], '1'))
    .addOption(new Option('--idle-latency <us>', "how long an idle lcore may overlook a guest's first frame, 1 to 100000 us: each look costs up to 20 us of a processor").argParser(integer(1, MAX_IDLE_LATENCY_US)).default(IDLE_LATENCY_US))
    .addOption(new Option('--unsealed-memory <how>', 'guest memory in a file that cannot be sealed (on /dev/shm, say; not memfd), whose truncation would end this process: map it with a warning, or refuse it').choices(UNSEALED_MEMORY).default('map'))
    .addOption(new Option('--burst <n>', 'frames per burst, 1 to 1024').argParser(integer(1, 1024)))
    .addOption(new Option('--stats <seconds>', 'log statistics this often (0: at the end only)').argParser(integer(0, 86_400)).default(0))
    .addOption(new Option('--control <path>', 'listen on this UNIX socket for requests: plug, unplug, list and more (see "iavf-device ctl --help")').argParser((t: string) => collect(t)[0]))
    .addOption(new Option('--log-level <level>', 'least severe log line').choices(LOG_LEVELS).default('info'))
    .addOption(new Option('--log-format <format>', 'log lines for people or for programs').choices(['pretty', 'json']).default('pretty'))
    .allowExcessArguments(false)
    .showHelpAfterError(false)
    .addHelpText('after', EXAMPLES)
    .addHelpText('after', drivers === '' ? '' : `\nDrivers for --vdev (an emulated device, emu_…, also takes path=SOCKET or fd=NUMBER: where it is served):\n${drivers}`)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
}

/** The last byte counted up: further cards of one command line. */
function nextMac(mac: string, index: number): string {
  const parts = mac.split(':');
  const last = Number.parseInt(parts[5] ?? '', 16);
  if (parts.length !== 6 || Number.isNaN(last)) return mac;
  return [...parts.slice(0, 5), ((last + index) & 0xff).toString(16).padStart(2, '0')].join(':');
}

/** The vdevs and pairs that the short cuts stand for. */
function expand(flags: Flags): { vdevs: string[]; pairs: string[] } {
  const taps = flags.tap ?? [];
  const places = [...(flags.socket ?? []), ...(flags.socketPath ?? [])].map((p) => `path=${p}`).concat((flags.fd ?? []).map((n) => `fd=${n}`));
  const isSwitch = flags.far === 'switch';
  const farEnds = [taps.length > 0 && !isSwitch, flags.far !== undefined, flags.rxPcap !== undefined || flags.txPcap !== undefined].filter(Boolean).length;
  if (farEnds > 1) throw new UsageError('--tap, --far and --rx-pcap/--tx-pcap are different far ends of one card: give one of them (--far switch takes --tap)');
  if (places.length === 0 && (farEnds > 0 || flags.queues !== undefined || flags.mac !== undefined || flags.doorbell !== undefined)) {
    throw new UsageError('--tap, --far, --rx-pcap, --tx-pcap, --queues, --mac and --doorbell describe the card of a --socket or --fd: give one');
  }
  if (isSwitch && places.length + taps.length < 2) throw new UsageError('--far switch needs two cards, or a card and a --tap');
  if (taps.length > 0 && !isSwitch && taps.length !== places.length) throw new UsageError(`${places.length} cards need ${places.length} --tap, there are ${taps.length}`);
  if (places.length > 1 && (flags.rxPcap !== undefined || flags.txPcap !== undefined)) throw new UsageError('--rx-pcap and --tx-pcap are for one card: use --vdev and --forward for more');
  const vdevs: string[] = [];
  const pairs: string[] = [];
  places.forEach((place, i) => {
    const card = [`emu_iavf${i}`, place];
    if (flags.queues !== undefined) card.push(`queues=${flags.queues}`);
    if (flags.mac !== undefined) card.push(`mac=${nextMac(flags.mac, i)}`);
    if (flags.doorbell !== undefined) card.push(`doorbell=${flags.doorbell}`);
    vdevs.push(card.join(','), `net_iavf_be${i},emu=emu_iavf${i}`);
    if (isSwitch) return;
    const far = farEnd(flags, i);
    if (far !== undefined) vdevs.push(far);
    pairs.push(far === undefined ? `net_iavf_be${i}` : `net_iavf_be${i}=${far.split(',')[0]}`);
  });
  if (isSwitch) {
    vdevs.push(...taps.map((iface, i) => `net_tap${i},iface=${iface}`));
    pairs.push([...places.map((_, i) => `net_iavf_be${i}`), ...taps.map((_, i) => `net_tap${i}`)].join('+'));
  }
  return { vdevs, pairs };
}

function farEnd(flags: Flags, i: number): string | undefined {
  if (flags.tap !== undefined) return `net_tap${i},iface=${flags.tap[i]}`;
  if (flags.rxPcap !== undefined || flags.txPcap !== undefined) {
    return [`net_pcap${i}`, ...(flags.rxPcap === undefined ? [] : [`rx_pcap=${flags.rxPcap}`]), ...(flags.txPcap === undefined ? [] : [`tx_pcap=${flags.txPcap}`])].join(',');
  }
  if (flags.far === 'loop') return undefined;
  return flags.far === 'null' ? `net_null${i}` : `net_echo${i}`;
}

/** Thrown for --help: print this and exit 0. */
export class HelpRequested extends Error {
  override readonly name = 'HelpRequested';
}

/** Throws UsageError with one line that says what is wrong. */
export function parseArguments(argv: readonly string[], drivers = ''): Plan {
  const program = createProgram(drivers);
  let help = '';
  try {
    program.configureOutput({ writeOut: (text) => { help += text; } });
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.code === 'commander.helpDisplayed') throw new HelpRequested(help.trimEnd());
    if (error instanceof CommanderError) throw new UsageError(error.message.replace(/^error: /, '').replaceAll('\n', ' '));
    throw error;
  }
  const flags = program.opts<Flags>();
  const short = expand(flags);
  const vdevs = [...short.vdevs, ...(flags.vdev ?? [])];
  if (vdevs.length === 0 && flags.control === undefined) throw new UsageError('nothing to serve: give --socket PATH, or --vdev (see --help)');
  return {
    vdevs,
    pairs: [...short.pairs, ...(flags.forward ?? [])],
    engine: flags.forwardMode,
    lcores: flags.lcores,
    idleLatencyUs: flags.idleLatency,
    burst: flags.burst,
    unsealedMemory: flags.unsealedMemory,
    logLevel: flags.logLevel,
    logFormat: flags.logFormat,
    statsPeriod: flags.stats,
    control: flags.control,
  };
}
