import { DmaError } from './errors.ts';
import { PAGE_BYTES } from './iotlb.ts';
import type { Window } from './window.ts';

/** (module (import "env" "memory" (memory 65536 65536 shared)) (func (export "load") (param i32) (result i32) local.get 0 i32.load8_u)) */
const LOAD_BYTE = Uint8Array.of(
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x06, 0x01, 0x60, 0x01, 0x7f, 0x01, 0x7f,
  0x02, 0x14, 0x01, 0x03, 0x65, 0x6e, 0x76, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x03, 0x80, 0x80, 0x04, 0x80, 0x80, 0x04,
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x08, 0x01, 0x04, 0x6c, 0x6f, 0x61, 0x64, 0x00, 0x00,
  0x0a, 0x09, 0x01, 0x07, 0x00, 0x20, 0x00, 0x2d, 0x00, 0x00, 0x0b,
);

function expect(seen: number | undefined, wanted: number, what: string): void {
  if (seen !== wanted) throw new DmaError('ERR_WINDOW_SELF_TEST', `${what}: expected ${wanted}, saw ${seen ?? 'nothing'}; this engine cannot hold guest memory in linear memory`);
}

/** Maps a memfd, sees a store through the file and through the memory, from JavaScript and from WebAssembly, and takes it out again. */
export function checkWindow(window: Window): void {
  const { sys } = window;
  const exports = new WebAssembly.Instance(new WebAssembly.Module(LOAD_BYTE), { env: { memory: window.memory } }).exports as { load(offset: number): number };
  const byte = new Uint8Array(1);
  const fd = sys.memfdCreate('emudev-self-test', { allowSealing: false });
  try {
    sys.ftruncate(fd, 2 * PAGE_BYTES);
    const mapping = window.map({ fd, fdOffset: 0, lengthBytes: 2 * PAGE_BYTES, write: true });
    const at = mapping.offset + PAGE_BYTES + 1;
    try {
      byte[0] = 0xa5;
      sys.pwrite(fd, byte, PAGE_BYTES + 1);
      expect(window.u8[at], 0xa5, 'a byte written to the file, read by JavaScript');
      expect(exports.load(at), 0xa5, 'a byte written to the file, read by WebAssembly');
      window.u8[at] = 0x5a;
      sys.pread(fd, byte, PAGE_BYTES + 1);
      expect(byte[0], 0x5a, 'a byte stored in memory, read from the file');
    } finally {
      mapping[Symbol.dispose]();
    }
    expect(window.u8[at], 0, 'a byte of a disposed mapping');
    window.u8[at] = 0xff;
    sys.pread(fd, byte, PAGE_BYTES + 1);
    window.u8[at] = 0;
    expect(byte[0], 0x5a, 'the file after a store to its disposed mapping');
  } finally {
    sys.close(fd);
  }
}
