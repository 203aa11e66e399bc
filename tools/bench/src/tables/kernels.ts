/**
 * Kernels alone: one thread plays both ends of a ring, memory warm in the cache, so what is left is the work per frame. Against C twins of
 * the same checks (c/*.c), which start from the same memory and have to leave the same. Where many bytes are moved, the twin is compiled
 * once more with vectors as narrow as WebAssembly's, to tell the width from the rest.
 */
import { BURST, compileTwin, timeKernel, timeTwin } from '../kernel-cases/case.ts';
import { DRIVER_CONSTANTS, driverCases } from '../kernel-cases/driver.ts';
import { GUEST_CONSTANTS, guestCases } from '../kernel-cases/guest.ts';
import { MEMIF_CONSTANTS, memifCases } from '../kernel-cases/memif.ts';
import { missingPeer } from '../peers.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Effort, Table } from '../table.ts';

const GOAL = 0.9;
const PROGRAMS = { kernels: GUEST_CONSTANTS, driver: DRIVER_CONSTANTS, memif: MEMIF_CONSTANTS };
const lapsOf = (effort: Effort): number => (effort.quick ? 200 : 4000);

const table: Table = {
  what: `kernels of the emulated card, of its driver and of memif alone, both ends of the ring played by one thread, bursts of ${BURST}; nanoseconds per frame, lower quartile of the laps`,
  figures: [{ name: 'ns', unit: 'ns', better: 'less' }],
  contenders(_effort, undo) {
    const missing = missingPeer('gcc');
    const folder = undo.use(new TemporaryFolder());
    const programs = new Map<string, string>();
    for (const [program, constants] of missing === undefined ? Object.entries(PROGRAMS) : []) {
      for (const vectorBytes of [16, 64] as const) programs.set(`${program}-${vectorBytes}`, compileTwin(program, constants, vectorBytes, folder));
    }
    return [...guestCases(), ...driverCases(), ...memifCases()].flatMap((which): Contender[] => {
      const twin = (who: string, vectorBytes: 16 | 64): Contender => ({
        who,
        missing,
        run: (effort) => Promise.resolve({ ns: timeTwin(which, programs.get(`${which.program}-${vectorBytes}`)!, folder, lapsOf(effort)) }),
      });
      const wide = twin(`${which.who}, in C`, 64);
      const narrow = twin(`${which.who}, in C, 16-byte vectors`, 16);
      return [
        {
          who: which.who,
          against: [{ who: wide.who, goal: GOAL }, ...(which.copies ? [{ who: narrow.who }] : [])],
          run: (effort) => Promise.resolve({ ns: timeKernel(which, lapsOf(effort)) }),
        },
        wide,
        ...(which.copies ? [narrow] : []),
      ];
    });
  },
};
export default table;
