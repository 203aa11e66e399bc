import { deepEqual, fail, ok } from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { PATIENCE_MS, QUIET_TURNS } from './limits.ts';

/**
 * One requirement, as something to run. `run` rejects with an AssertionError that says what was expected and what was seen. Any
 * test runner takes them: `for (const { title, run } of suite) test(title, run)`.
 */
export interface ConformanceCase {
  /** Stable, e.g. 'port.conservation': for whoever refers to a case. */
  readonly id: string;
  /** The requirement in a sentence. */
  readonly title: string;
  /** Tests the requirement once, with everything it needs made anew and given back. */
  run(): Promise<void>;
}

/** What became of a case. */
export interface ConformanceResult {
  readonly id: string;
  readonly title: string;
  /** Undefined where it passed. */
  readonly error: unknown;
}

/** Runs cases one after the other, without a test runner. */
export async function runConformance(cases: Iterable<ConformanceCase>): Promise<readonly ConformanceResult[]> {
  const results: ConformanceResult[] = [];
  for (const { id, title, run } of cases) {
    let error: unknown;
    try {
      await run();
    } catch (thrown) {
      error = thrown ?? new Error('rejected with nothing');
    }
    results.push({ id, title, error });
  }
  return results;
}

/** Ends all that is under way on the event loop now: microtasks, then everything they have queued. */
export const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

/** Lets pass the time in which something wrong would show that no event announces. */
export async function quietTurns(count: number = QUIET_TURNS): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** Resolves or rejects as `promise` does; rejects after PATIENCE_MS with what was waited for. */
export async function within<T>(what: string, promise: PromiseLike<T>, ms: number = PATIENCE_MS): Promise<T> {
  const cancel = new AbortController();
  const late = delay(ms, undefined, { signal: cancel.signal }).then(() => fail(`${what}: not within ${ms} ms`), () => new Promise<never>(() => {}));
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel.abort();
  }
}

/** Waits until `condition` holds. For what no event announces. */
export async function eventually(what: string, condition: () => boolean, ms: number = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > deadline) fail(`${what}: not within ${ms} ms`);
    await turn();
  }
}

/** What `body` throws or rejects with; fails where it does neither. */
export async function thrownBy(what: string, body: () => unknown): Promise<unknown> {
  try {
    await within(what, Promise.resolve(body()));
  } catch (error) {
    return error;
  }
  return fail(`${what}: expected an error, nothing was thrown`);
}

/** Fails unless `body` throws or rejects with an error of this code (any of these codes). */
export async function refuses(what: string, codes: string | readonly string[], body: () => unknown): Promise<void> {
  const error = await thrownBy(what, body);
  const wanted = typeof codes === 'string' ? [codes] : codes;
  const seen = codeOf(error);
  ok(seen !== undefined && wanted.includes(seen), `${what}: expected ${wanted.join(' or ')}, got ${String(error)}`);
}

/** The stable code of a typed error; undefined for any other. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** As `deepStrictEqual`, with a sentence in front of the difference. */
export function same<T>(what: string, seen: T, expected: T): void {
  if (isDeepStrictEqual(seen, expected)) return;
  try {
    deepEqual(seen, expected);
  } catch (error) {
    fail(`${what}: ${(error as Error).message}`);
  }
}
