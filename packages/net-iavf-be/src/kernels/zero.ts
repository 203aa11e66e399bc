/** By plain stores: memory.fill would end the process on a page that has gone. */
export function zero(to: u32, bytes: u32): void {
  while (bytes >= 8) {
    store<u64>(to, 0);
    to += 8;
    bytes -= 8;
  }
  while (bytes != 0) {
    store<u8>(to++, 0);
    --bytes;
  }
}
