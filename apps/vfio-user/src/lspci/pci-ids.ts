/** Names of vendors, devices and classes from the pci.ids file that distributions install. */
import { readFileSync } from 'node:fs';

export interface PciNames {
  vendor(vendor: number): string | undefined;
  device(vendor: number, device: number): string | undefined;
  subsystem(vendor: number, device: number, subVendor: number, subDevice: number): string | undefined;
  baseClass(base: number): string | undefined;
  subclass(base: number, sub: number): string | undefined;
  progIf(base: number, sub: number, progIf: number): string | undefined;
}

/** Where Debian, Fedora, Arch and pciutils itself put it. */
const PATHS: readonly string[] = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids', '/usr/share/pci.ids'];

const nothing = (): undefined => undefined;
export const NO_NAMES: PciNames = { vendor: nothing, device: nothing, subsystem: nothing, baseClass: nothing, subclass: nothing, progIf: nothing };

let known: PciNames | undefined;

/** The names this system knows; none where it has no pci.ids. Read once. */
export function systemNames(): PciNames {
  return known ??= readNames(PATHS);
}

function readNames(paths: readonly string[]): PciNames {
  for (const path of paths) {
    try {
      return parsePciIds(readFileSync(path, 'utf8'));
    } catch {
      // The next place; numbers are shown where none has it.
    }
  }
  return NO_NAMES;
}

/**
 * The file's form: `vendor  name`, tab `device  name`, two tabs `subvendor subdevice  name`; classes after a `C ` each in the
 * same way. Looked up by scanning: a command asks for a handful of names, an index of 40 000 would cost more than it saves.
 */
export function parsePciIds(text: string): PciNames {
  const block = (head: string): string | undefined => {
    const at = text.startsWith(`${head}  `) ? 0 : text.indexOf(`\n${head}  `) + 1;
    if (at === 0 && !text.startsWith(`${head}  `)) return undefined;
    const rest = text.slice(at);
    // A block ends where a line begins without a tab; comments inside it are skipped.
    const end = /\n(?![\t#\n])/.exec(rest);
    return end === null ? rest : rest.slice(0, end.index);
  };
  const nameOf = (line: string | undefined, head: string): string | undefined => line?.slice(head.length).split('\n', 1)[0]?.trim();
  const inner = (outer: string | undefined, head: string): string | undefined => {
    const at = outer?.indexOf(`\n${head}  `) ?? -1;
    return at < 0 ? undefined : outer!.slice(at + 1);
  };
  const deviceBlock = (vendor: number, device: number): string | undefined => {
    const found = inner(block(id(vendor, 4)), `\t${id(device, 4)}`);
    const end = found === undefined ? null : /\n(?!\t\t)/.exec(found);
    return end === null ? found : found!.slice(0, end.index);
  };
  const subclassBlock = (base: number, sub: number): string | undefined => {
    const found = inner(block(`C ${id(base, 2)}`), `\t${id(sub, 2)}`);
    const end = found === undefined ? null : /\n(?!\t\t)/.exec(found);
    return end === null ? found : found!.slice(0, end.index);
  };
  return {
    vendor: (vendor) => nameOf(block(id(vendor, 4)), id(vendor, 4)),
    device: (vendor, device) => nameOf(deviceBlock(vendor, device), `\t${id(device, 4)}`),
    subsystem: (vendor, device, subVendor, subDevice) => {
      const head = `\t\t${id(subVendor, 4)} ${id(subDevice, 4)}`;
      return nameOf(inner(deviceBlock(vendor, device), head), head);
    },
    baseClass: (base) => nameOf(block(`C ${id(base, 2)}`), `C ${id(base, 2)}`),
    subclass: (base, sub) => nameOf(subclassBlock(base, sub), `\t${id(sub, 2)}`),
    progIf: (base, sub, progIf) => nameOf(inner(subclassBlock(base, sub), `\t\t${id(progIf, 2)}`), `\t\t${id(progIf, 2)}`),
  };
}

function id(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
