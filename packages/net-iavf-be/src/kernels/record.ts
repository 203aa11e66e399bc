/** Writes one frame record (@emudev/ethdev, burst.ts), reserved fields included. */
@inline
export function writeRecord(
  record: u32, data: u32, length: u32, flags: u32, vlanTci: u32, segment: u32, l2: u32, l3: u32, l4: u32, queue: u32,
): void {
  store<u64>(record, <u64>data | (<u64>length << 32));
  store<u64>(record, <u64>flags | (<u64>(vlanTci | (segment << 16)) << 32), 8);
  store<u64>(record, <u64>(l2 | (l3 << 16)) | (<u64>l4 << 32), 16);
  store<u64>(record, <u64>queue << 32, 24);
}
