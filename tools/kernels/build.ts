/**
 * Compiles `src/kernels/index.ts` (AssemblyScript) of the package in the current folder to WebAssembly and writes it as
 * `src/kernels.gen.ts`, so that a bundler, a worker thread and a test all load it without touching the file system.
 *
 * The module imports the DMA window as its memory: 4 GiB, shared, never grown (see @emudev/dma). Kernels own no static
 * data: every kernel of the process lives in the same memory, so a data segment would overwrite somebody's bytes.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import asc from 'assemblyscript/asc';

const OUT = 'src/kernels.wasm.tmp';
const { error, stderr } = await asc.main([
  'src/kernels/index.ts',
  '--outFile', OUT,
  '--optimizeLevel', '3', '--shrinkLevel', '0', '--converge', '--noAssert',
  '--runtime', 'stub',
  '--enable', 'simd', '--enable', 'threads', '--enable', 'bulk-memory', '--enable', 'relaxed-simd',
  '--importMemory', '--sharedMemory', '--initialMemory', '65536', '--maximumMemory', '65536',
  '--memoryBase', '0', '--zeroFilledMemory',
]);
if (error !== null) {
  console.error(stderr.toString());
  process.exit(1);
}
const bytes = readFileSync(OUT);
rmSync(OUT);
if (WebAssembly.Module.customSections(new WebAssembly.Module(bytes), 'data').length > 0) {
  console.error('a kernel must not contain a data segment');
  process.exit(1);
}
writeFileSync('src/kernels.gen.ts', `/** Compiled from src/kernels by tools/kernels; not edited by hand. */\nexport const KERNELS_WASM_BASE64: string = '${bytes.toString('base64')}';\n`);
