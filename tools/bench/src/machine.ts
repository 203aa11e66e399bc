/** What the figures were measured on, and what else was going on there. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { allPeers } from './peers.ts';
import { canPin } from './processes.ts';

export interface Machine {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMb: number;
  readonly kernel: string;
  readonly node: string;
  /** Of this project; ends in `+` where files were changed since. */
  readonly commit: string | null;
  /** Each process of a pair has a processor of its own. */
  readonly pinned: boolean;
  /** A guest of some hypervisor: the processors may not be all ours, whatever /proc says. */
  readonly virtual: boolean;
  /** The first two processors are threads of one core: two busy processes slow each other down. */
  readonly sharedCore: boolean;
  /** Of the first processor; null where it cannot be seen, as in most virtual machines. */
  readonly governor: string | null;
  /** Load average over a minute before the first run. */
  readonly loadBefore: number;
  /** Versions of the programs that tables compare with; null: not installed. */
  readonly peers: Readonly<Record<string, string | null>>;
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function commit(): string | null {
  const git = (...args: string[]): string | undefined => {
    const { status, stdout } = spawnSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' });
    return status === 0 ? stdout.trim() : undefined;
  };
  const head = git('rev-parse', '--short=12', 'HEAD');
  // Figures that are being stored do not make the product another one.
  return head === undefined ? null : head + (git('status', '--porcelain', '--untracked-files=no', ':/', ':!/docs') === '' ? '' : '+');
}

export function thisMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length, memoryMb: Math.round(totalmem() / 2 ** 20), kernel: release(), node: process.version, commit: commit(), pinned: canPin,
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(text('/proc/cpuinfo') ?? ''),
    sharedCore: /^0[,-]1\b/.test(text('/sys/devices/system/cpu/cpu0/topology/thread_siblings_list') ?? ''),
    governor: text('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor') ?? null,
    loadBefore: loadavg()[0]!, peers: allPeers(),
  };
}

/** What disturbed a measurement: shares of the time of all processors together. */
export interface Noise {
  /** Time the hypervisor gave to others. */
  readonly stolen: number;
  /** Time of processes that are not ours. */
  readonly others: number;
  /** Those of them that took most, and are still there. */
  readonly busiest: readonly string[];
}

const TICK_MS = 10;
/** Of a shorter time ticks say nothing. */
const LEAST_MS = 200;
const BUSIEST = 3;
/** Of one processor: whoever took less is not named. */
const BUSY_SHARE = 0.02;

interface ProcessTime {
  readonly name: string;
  readonly parent: number;
  readonly ticks: number;
  /** With that of children it has waited for. */
  readonly ticksOfAll: number;
}

/** Fields of /proc/PID/stat behind the name, as proc(5) counts them: 4 is the parent, 14 to 17 are times. */
function processTime(pid: number | 'self'): ProcessTime | undefined {
  const line = text(`/proc/${String(pid)}/stat`);
  if (line === undefined) return undefined;
  const fields = line.slice(line.lastIndexOf(') ') + 2).split(' ').map(Number);
  const ticks = fields[11]! + fields[12]!;
  return { name: line.slice(line.indexOf('(') + 1, line.lastIndexOf(')')), parent: fields[1]!, ticks, ticksOfAll: ticks + fields[13]! + fields[14]! };
}

interface Moment {
  /** Ticks of all processors: in total, at work, and stolen. */
  readonly total: number;
  readonly busy: number;
  readonly stolen: number;
  readonly own: number;
  readonly processes: ReadonlyMap<number, ProcessTime>;
}

function now(): Moment {
  const ticks = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!.trim().split(/\s+/).slice(1).map(Number);
  // user, nice, system, idle, iowait, irq, softirq, steal
  const [user, nice, system, idle, iowait, irq, softirq, stolen] = ticks as [number, number, number, number, number, number, number, number];
  const busy = user + nice + system + irq + softirq;
  const processes = new Map<number, ProcessTime>();
  for (const entry of readdirSync('/proc')) {
    const time = /^\d+$/.test(entry) ? processTime(Number(entry)) : undefined;
    if (time !== undefined) processes.set(Number(entry), time);
  }
  return { total: busy + idle + iowait + stolen, busy, stolen, own: processTime('self')!.ticksOfAll, processes };
}

function isOurs(pid: number, processes: Moment['processes']): boolean {
  for (let at: number | undefined = pid; at !== undefined && at > 1; at = processes.get(at)?.parent) if (at === process.pid) return true;
  return false;
}

/** Call at the start; what it returns tells what was disturbing since. Children that are to count as ours have ended by then. */
export function watchNoise(): () => Noise {
  const before = now();
  const begun = performance.now();
  return () => {
    const after = now();
    const passed = performance.now() - begun;
    const total = after.total - before.total;
    if (passed < LEAST_MS || total === 0) return { stolen: 0, others: 0, busiest: [] };
    const busiest = [...after.processes].filter(([pid]) => !isOurs(pid, after.processes)).map(([pid, { name, ticks }]) => {
      return { label: `${name} (${String(pid)})`, share: ((ticks - (before.processes.get(pid)?.ticks ?? 0)) * TICK_MS) / passed };
    }).filter(({ share }) => share > BUSY_SHARE).sort((a, b) => b.share - a.share).slice(0, BUSIEST);
    return {
      stolen: (after.stolen - before.stolen) / total,
      others: Math.max(0, after.busy - before.busy - (after.own - before.own)) / total,
      busiest: busiest.map(({ label, share }) => `${label} ${(share * 100).toFixed(0)} %`),
    };
  };
}
