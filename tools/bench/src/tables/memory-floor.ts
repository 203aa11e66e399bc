/** What the machine itself takes for the pattern of `memory-span`: pages all over more and more memory, in C, without a device. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { missingPeer } from '../peers.ts';
import { TemporaryFolder } from '../processes.ts';
import type { Contender, Table } from '../table.ts';

const SOURCE = fileURLToPath(new URL('../../c/memory-floor.c', import.meta.url));
const ONE = '1 GiB';
/** Of the DMA window when it is full. */
const EXTENT_BYTES = 0x2_0000;

const table: Table = {
  what: '64 bytes from each of 4096 pages to a small area and on to 4096 other pages, anywhere in 1 to 64 GiB of a sparse file, by C without a device: the file mapped as a whole, or only the 128 KiB around each page; nanoseconds per frame, lower quartile of the laps',
  figures: [{ name: 'ns', unit: 'ns', better: 'less' }],
  x: 'GiB of memory',
  contenders(_effort, undo) {
    const missing = missingPeer('gcc');
    const program = undo.use(new TemporaryFolder()).file('memory-floor');
    if (missing === undefined) execFileSync('gcc', ['-O3', '-march=native', '-o', program, SOURCE]);
    const contender = (gib: number, who: string, extentBytes: number): Contender => ({
      who,
      x: gib,
      series: extentBytes === 0 ? 'mapped as a whole' : 'extents of 128 KiB',
      missing,
      against: who === ONE ? [] : [{ who: ONE }],
      run: ({ windowMs }) => Promise.resolve({ ns: Number(execFileSync(program, [String(gib), String(extentBytes), String(Math.min(windowMs, 1000))], { encoding: 'utf8' })) }),
    });
    return [1, 4, 16, 64].flatMap((gib) => [
      contender(gib, `${gib} GiB`, 0),
      ...(gib > 4 ? [contender(gib, `${gib} GiB, in extents`, EXTENT_BYTES)] : []),
    ]);
  },
};
export default table;
