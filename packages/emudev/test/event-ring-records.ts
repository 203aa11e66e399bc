/** Record `index` of the hammer tests: 1..40 bytes that depend on it. */
export function fillRecord(record: Uint8Array, index: number): number {
  const length = 1 + (Math.imul(index, 7) >>> 0) % 40;
  for (let i = 0; i < length; i++) record[i] = index + i * 31;
  return length;
}

/** Depends on every byte, every length and the order of records. */
export function checksum(sum: number, record: Uint8Array, length: number): number {
  let next = Math.imul(sum ^ length, 0x01000193);
  for (let i = 0; i < length; i++) next = Math.imul(next ^ record[i]!, 0x01000193);
  return next;
}
