/** Writes the `newc` cpio archive that Linux unpacks as its initial root file system (Documentation/driver-api/early-userspace/buffer-format.rst). */
export type CpioEntry =
  | { readonly path: string; readonly kind: 'file'; readonly mode: number; readonly content: Uint8Array }
  | { readonly path: string; readonly kind: 'link'; readonly target: string }
  | { readonly path: string; readonly kind: 'folder' }
  | { readonly path: string; readonly kind: 'device'; readonly major: number; readonly minor: number };

const TYPE = { file: 0o100000, link: 0o120000, folder: 0o040000, device: 0o020000 } as const;

export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Buffer[] = [];
  let inode = 1;
  const record = (path: string, mode: number, content: Uint8Array, major = 0, minor = 0): void => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode++, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((f) => f.toString(16).padStart(8, '0')).join('')}`);
    const pad = (n: number): Buffer => Buffer.alloc((4 - (n % 4)) % 4);
    parts.push(header, name, pad(header.length + name.length), Buffer.from(content.buffer, content.byteOffset, content.length), pad(content.length));
  };
  const folders = new Set<string>();
  const parents = (path: string): void => {
    const parent = path.split('/').slice(0, -1).join('/');
    if (parent === '' || folders.has(parent)) return;
    parents(parent);
    folders.add(parent);
    record(parent, TYPE.folder | 0o755, new Uint8Array());
  };
  for (const entry of entries) {
    parents(entry.path);
    if (entry.kind === 'file') record(entry.path, TYPE.file | entry.mode, entry.content);
    else if (entry.kind === 'link') record(entry.path, TYPE.link | 0o777, Buffer.from(entry.target));
    else if (entry.kind === 'device') record(entry.path, TYPE.device | 0o600, new Uint8Array(), entry.major, entry.minor);
    else if (!folders.has(entry.path)) {
      folders.add(entry.path);
      record(entry.path, TYPE.folder | 0o755, new Uint8Array());
    }
  }
  record('TRAILER!!!', 0, new Uint8Array());
  return Buffer.concat(parts);
}
