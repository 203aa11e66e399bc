/**
 * Guest memory as part of one process-wide WebAssembly linear memory, the DMA window.
 *
 * @packageDocumentation
 */
// The public face (implemented file by file):
//
// window.ts      Window.open(options?): the process-wide window (second open() returns the same object, reference counted).
//   memory: WebAssembly.Memory (65536 pages, shared, never grown)     base: bigint (address of byte 0)
//   u8: Uint8Array, i32: Int32Array, u32: Uint32Array, view: DataView  (over the whole 4 GiB)
//   alloc(bytes, align = 64): WindowOffset / free(offset): private shared state (control blocks, arenas, tables), zero-filled;
//     offset 0 is never handed out, so 0 can mean "none" everywhere.
//   map(request: {fd, fdOffset, lengthBytes, write: boolean, congruentTo?: bigint}): WindowMapping (Disposable; offset, lengthBytes)
//     file pages inside the window; with congruentTo the offset is congruent to it modulo 2 MiB (so an IOVA chunk is a window chunk);
//     disposing puts anonymous zero pages back, never a hole.   WINDOW_FULL is a typed error (ENOSPC).
//   selfTest(): map a memfd, see a store through fd and memory both ways, put the hole back.
//   attachWindow(memory, base): the same accessors inside a worker thread from what was posted to it.
// iova-space.ts  IovaSpace(window): one device's DMA table: map/unmap/clear, GuestMemory of @emudev/pci (structurally),
//   owns the mapped regions; keeps the IOTLB (iotlb.ts) in step; MUST be changed only while the device is quiesced.
// iotlb.ts       layout + TypeScript look-up (twin of the kernels' look-up).
// quiescence.ts  Quiescence (control side) and QuiescentReader (lcore side).
export {};
