/** Instantiates a package's AssemblyScript kernels (its generated `kernels.gen.ts`) over the DMA window. */

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/**
 * `E` is the set of functions the module exports, in plain numbers (i32 as number, i64 as bigint). Kernels own no data segment,
 * so several modules, and one instance per lcore of each, live in the same memory.
 */
export function loadKernels<E>(wasmBase64: string, memory: WebAssembly.Memory): E {
  const module = new WebAssembly.Module(fromBase64(wasmBase64));
  const instance = new WebAssembly.Instance(module, {
    env: {
      memory,
      abort: (): never => {
        throw new Error('kernel aborted: a bug in the kernel, its input is checked before');
      },
    },
  });
  return instance.exports as E;
}
