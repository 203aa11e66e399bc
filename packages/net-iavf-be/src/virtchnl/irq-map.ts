/** CONFIG_IRQ_MAP: which vector a queue raises. */
import { decodeConfigIrqMap, Opcode, requireValue, type VectorMap } from '@emudev/virtchnl';
import type { Adapter } from '../adapter.ts';
import { DONE, operation, type Operation, type Outcome } from './operation.ts';

const OP = Opcode.CONFIG_IRQ_MAP;

function map(adapter: Adapter, maps: readonly VectorMap[]): Outcome {
  const { numVectors } = adapter.emudev.info;
  requireValue(maps.length <= numVectors, OP, `at most ${numVectors} vectors`, maps.length);
  const entries = maps.map((entry) => {
    adapter.requireVsi(OP, entry.vsiId);
    requireValue(entry.vectorId < numVectors, OP, `a vector below ${numVectors}`, entry.vectorId);
    // Queues on vector 0 are legitimate: DPDK maps its Rx queues there.
    return { ...entry, vector: entry.vectorId, rings: adapter.select(OP, entry) };
  });
  const newlyMapped = new Set<number>();
  for (const { vector, rings, rxItr, txItr } of entries) {
    for (const ring of [...adapter.tx, ...adapter.rx]) {
      if (rings.includes(ring)) {
        if (ring.enabled && ring.vector !== vector) newlyMapped.add(vector);
        ring.itrIndex = ring.direction === 'rx' ? rxItr : txItr;
        adapter.setVector(ring, vector);
      } else if (ring.vector === vector) {
        ring.setVector(undefined, 0, 0);
      }
    }
  }
  // A queue that runs may have completed descriptors that no vector spoke of: one interrupt too many is harmless.
  for (const vector of newlyMapped) adapter.raise(vector);
  return DONE;
}

export const irqMapOperations: readonly Operation[] = [operation(OP, 0, decodeConfigIrqMap, map)];
