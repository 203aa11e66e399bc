/** What the operator should know about the processors that lcores run on. */
import { threadAffinity } from '@emudev/linux';

/** One line each; none where all is well. `cpus` as in `Plan.lcores`, `allowed`: the processors this process may use. */
export function lcoreAdvice(cpus: readonly (number | undefined)[], allowed: readonly number[] = threadAffinity()): string[] {
  const advice: string[] = [];
  const bound = cpus.filter((cpu) => cpu !== undefined);
  const shared = bound.find((cpu, i) => bound.indexOf(cpu) !== i);
  if (shared !== undefined) advice.push(`several lcores are bound to processor ${shared}: a busy one keeps the others waiting for milliseconds at a time`);
  if (cpus.length >= allowed.length && allowed.length > 1) {
    advice.push(`${cpus.length} lcores on ${allowed.length} processors: under load nothing is left for the control thread and the virtual machines; use fewer (--lcores)`);
  }
  return advice;
}
