/** Runs a list of defective lamps through the provider suite. */
import { describe, expect, test } from 'vitest';
import { linux } from '@emudev/linux';
import { providerConformance, type ProviderFactory } from '@emudev/testkit';
import { failures } from './failures.ts';
import { probeLamp, type LampClass } from './lamp.ts';

const lamp = (make: LampClass): ProviderFactory => (name, context) => probeLamp(name, context, make);

/** Descriptors that a mutant has lost on purpose; closed when it has been judged. */
export const leaked: number[] = [];
export const leak = (): void => { leaked.push(linux.eventfd()); };

export interface Mutant {
  readonly defect: string;
  readonly make?: LampClass;
  /** Where the defect is in what wraps the device. */
  readonly factory?: ProviderFactory;
  /** Cases that must fail. */
  readonly caughtBy: readonly string[];
}

/** Each mutant is a test: exactly the cases that it names fail. */
export function judge(mutants: readonly Mutant[]): void {
  describe('is caught:', () => {
    test.each(mutants)('$defect', async ({ make, factory, caughtBy }) => {
      const failed = await failures(providerConformance(factory ?? lamp(make!)));
      for (const fd of leaked.splice(0)) linux.close(fd);
      expect(Object.keys(failed).sort(), JSON.stringify(failed, undefined, 1)).toEqual([...caughtBy].sort());
    });
  });
}
