/** AssemblyScript. */
export function version(): u32 {
  return load<u32>(64) + 1;
}
