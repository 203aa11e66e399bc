import type { ConformanceCase } from '../suite.ts';
import { consumerCases } from './consumer.ts';
import { descriptionCases } from './description.ts';
import { functionCases } from './function.ts';
import { hookCases } from './hooks.ts';
import { lifecycleCases } from './lifecycle.ts';
import { factoryOf, withProvider, type ProviderCase, type ProviderConformanceOptions, type ProviderDriver, type ProviderFactory } from './rig.ts';

/**
 * What every provider of an emulated PCI device has to do (packages/emudev), as cases for any test runner: its life, what it tells
 * back ends, its hooks, its consumers, its PCI function. Each case makes a device of its own, in a registry whose deadlines run on a
 * fake clock, and closes it.
 */
export function providerConformance(subject: ProviderFactory | ProviderDriver, options: ProviderConformanceOptions = {}): readonly ConformanceCase[] {
  const factory = factoryOf(subject);
  const on: ProviderCase = (body) => withProvider(factory, options, body);
  return [...lifecycleCases(on, factory), ...descriptionCases(on), ...hookCases(on), ...consumerCases(on), ...functionCases(on)];
}
