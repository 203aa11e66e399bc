/** Programs of this folder in processes of their own, which answer `report` with what they have seen. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** How long things may take on a machine that has others to do. */
export const PATIENCE_MS = 60_000;

/** What the child reports, and has seen since it was asked last. */
export async function ask<T>(child: ChildProcess): Promise<T> {
  const reply = once(child, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
  child.send('report');
  return (await reply)[0] as T;
}

/** Resolves when the program says that it is ready. */
export async function start(program: string, args: readonly string[]): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL(program, import.meta.url)), [...args], { stdio: 'inherit' });
  await Promise.race([once(child, 'message'), once(child, 'exit').then(() => { throw new Error(`${program} ended`); })]);
  return child;
}

/** Ends those that have been started and still run. */
export async function end(children: readonly (ChildProcess | undefined)[]): Promise<void> {
  for (const child of children) {
    if (child === undefined || child.exitCode !== null) continue;
    const exited = once(child, 'exit');
    child.disconnect();
    await exited;
  }
}

/** For what nobody announces. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`in vain: ${what}`);
    await sleep(1);
  }
}
