/** A kernel by itself: one thread plays both ends of a ring, memory warm in the cache, and a twin in C starts from the same memory. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TemporaryFolder } from '../processes.ts';

export interface Range {
  readonly at: number;
  readonly bytes: number;
}

/** What `prepare` has laid out. */
export interface Setup {
  /** Put back before every lap. */
  readonly state: readonly Range[];
  /** The kernel's own, which its twin does without. */
  readonly scratch: readonly Range[];
  /** For the twin (see its source). */
  readonly arguments: readonly number[];
  /** Call `n` of a lap; returns frames. */
  readonly call: (n: number) => number;
}

export interface KernelCase {
  readonly who: string;
  /** Of the twin: c/PROGRAM.c, and which of its kernels. */
  readonly program: string;
  readonly kernel: string;
  /** Calls of a lap, and frames of each. */
  readonly calls: number;
  readonly frames: number;
  /** It moves enough bytes for the width of vectors to matter. */
  readonly copies: boolean;
  readonly memory: Uint8Array;
  readonly imageBytes: number;
  prepare(): Setup;
}

export const BURST = 32;
/** Bursts between two refills by the other end; only they are timed. */
export const BURSTS = 15;
const WARM_UP_LAPS = 400;

/** Nanoseconds per frame of the lower-quartile lap: what it costs when nobody else has the processor. Leaves what the last lap left. */
export function timeKernel(which: KernelCase, laps: number): number {
  const setup = which.prepare();
  const saved = setup.state.map(({ at, bytes }) => ({ at, content: which.memory.slice(at, at + bytes) }));
  const times: number[] = [];
  // The engine optimizes as it goes.
  for (let lap = -WARM_UP_LAPS; lap < laps; lap++) {
    for (const { at, content } of saved) which.memory.set(content, at);
    const start = performance.now();
    for (let n = 0; n < which.calls; n++) {
      const frames = setup.call(n);
      if (frames !== which.frames) throw new Error(`${which.who}: ${frames} of ${which.frames} frames`);
    }
    if (lap >= 0) times.push(performance.now() - start);
  }
  return (times.sort((a, b) => a - b)[laps >> 2]! * 1e6) / (which.calls * which.frames);
}

/** As `timeKernel`, of the program; throws if it does not leave in memory what the kernel does. */
export function timeTwin(which: KernelCase, program: string, folder: TemporaryFolder, laps: number): number {
  const setup = which.prepare();
  const file = folder.file('image');
  const image = (): Buffer => Buffer.from(which.memory.slice(0, which.imageBytes).buffer);
  writeFileSync(file, image());
  const ranges = setup.state.map(({ at, bytes }) => `${at}:${bytes}`).join();
  const words = [file, which.kernel, which.calls, which.frames, laps, ranges, ...setup.arguments];
  const answer = Number(execFileSync(program, words.map(String), { encoding: 'utf8' }));
  timeKernel(which, 1);
  const [kernels, twins] = [image(), readFileSync(file)];
  for (const { at, bytes } of setup.scratch) for (const one of [kernels, twins]) one.fill(0, at, at + bytes);
  const at = kernels.findIndex((byte, n) => byte !== twins[n]);
  if (at >= 0) throw new Error(`${which.who}: kernel and twin differ at 0x${at.toString(16)}`);
  return answer;
}

/** Compiles a twin, with the kernels' own constants. `vectorBytes` 16: with vectors as narrow as WebAssembly's. */
export function compileTwin(program: string, constants: Readonly<Record<string, unknown>>, vectorBytes: 16 | 64, folder: TemporaryFolder): string {
  const own = Object.entries(constants).filter(([name, value]) => typeof value === 'number' && /^[A-Z][A-Z0-9_]*$/.test(name));
  writeFileSync(folder.file('layout.h'), own.map(([name, value]) => `#define ${name} ${String(value)}u\n`).join(''));
  const source = fileURLToPath(new URL(`../../c/${program}.c`, import.meta.url));
  const binary = folder.file(`${program}-${vectorBytes}`);
  const width = vectorBytes === 16 ? ['-mno-avx'] : [];
  execFileSync('gcc', ['-O3', '-march=native', ...width, `-DVECTOR_BYTES=${vectorBytes}`, '-fno-strict-aliasing', '-I', folder.file('.'), '-o', binary, source], { stdio: ['ignore', 'ignore', 'pipe'] });
  return binary;
}
