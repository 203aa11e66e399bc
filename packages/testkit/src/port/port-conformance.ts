import type { ConformanceCase } from '../suite.ts';
import { controlCases } from './control.ts';
import { datapathCases } from './datapath-cases.ts';
import { withPort, type PortCase, type PortConformanceOptions, type PortFactory } from './rig.ts';

/**
 * What every ethdev port has to do (packages/ethdev, port.ts), as cases for any test runner. Each makes a port of its own with
 * `factory` and closes it.
 */
export function portConformance(factory: PortFactory, options: PortConformanceOptions = {}): readonly ConformanceCase[] {
  const on: PortCase = (body) => withPort(factory, options, body);
  return [...controlCases(on), ...datapathCases(on)];
}
