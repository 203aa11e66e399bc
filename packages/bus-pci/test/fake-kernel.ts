/** A tree as sysfs has it, with real files and links, and what the kernel does when `create` and `remove` are written. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { BusError, Sysfs, type SysfsPath } from '../src/index.ts';

export interface FakePci {
  readonly driver?: string;
  readonly group?: number;
  /** Attributes; undefined leaves one out. */
  readonly files?: Readonly<Record<string, string | undefined>>;
}

const E1000E = [
  '0x00000000feb80000 0x00000000feb9ffff 0x0000000000040200',
  '0x00000000feba0000 0x00000000febbffff 0x0000000000040200',
  '0x0000000000006000 0x000000000000601f 0x0000000000040101',
  '0x00000000febd0000 0x00000000febd3fff 0x0000000000040200',
  ...Array<string>(2).fill('0x0000000000000000 0x0000000000000000 0x0000000000000000'),
  '0x00000000feb00000 0x00000000feb3ffff 0x0000000000046200',
].join('\n');

export class FakeKernel extends Sysfs implements Disposable {
  readonly root: string;
  /** A `remove` waits for it: somebody has the device open. */
  closed: Promise<unknown> = Promise.resolve();
  #groups = 10;
  /** VFIO numbers its devices as they come. */
  #numbers = 0;
  /** What one device of a type takes of what all types of its parent share; others have instances of their own. */
  readonly #costs = new Map<string, number>();

  constructor() {
    const root = mkdtempSync(join(tmpdir(), 'bus-pci-'));
    super({ sysfsRoot: join(root, 'sys'), devRoot: join(root, 'dev') });
    this.root = root;
  }

  file(path: string, text = ''): void {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  symlink(path: string, target: string): void {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    symlinkSync(target, file);
  }

  /** An e1000e, unless `files` says otherwise. */
  pci(name: string, { driver, group, files = {} }: FakePci = {}): void {
    const path = `sys/devices/pci0000:00/${name}`;
    const all = { vendor: '0x8086\n', device: '0x10d3\n', subsystem_vendor: '0x8086\n', subsystem_device: '0xa01f\n', class: '0x020000\n', numa_node: '-1\n', resource: `${E1000E}\n`, ...files };
    for (const [file, text] of Object.entries(all)) if (text !== undefined) this.file(`${path}/${file}`, text);
    if (driver !== undefined) this.symlink(`${path}/driver`, `../../../bus/pci/drivers/${driver}`);
    if (group !== undefined) this.symlink(`${path}/iommu_group`, `../../../kernel/iommu_groups/${group}`);
    this.symlink(`sys/bus/pci/devices/${name}`, `../../../devices/pci0000:00/${name}`);
  }

  parent(name: string, types: Readonly<Record<string, { readonly api?: string; readonly available: number; readonly cost?: number; readonly name?: string; readonly description?: string }>>): void {
    const path = `sys/devices/virtual/${name}/${name}`;
    for (const [id, { api = 'vfio-pci', available, cost, name: title, description }] of Object.entries(types)) {
      if (cost !== undefined) this.#costs.set(id, cost);
      const type = `${path}/mdev_supported_types/${id}`;
      this.file(`${type}/create`);
      this.file(`${type}/device_api`, `${api}\n`);
      this.file(`${type}/available_instances`, `${available}\n`);
      if (title !== undefined) this.file(`${type}/name`, `${title}\n`);
      if (description !== undefined) this.file(`${type}/description`, `${description}\n`);
      mkdirSync(join(this.root, type, 'devices'));
    }
    this.symlink(`sys/class/mdev_bus/${name}`, `../../devices/virtual/${name}/${name}`);
  }

  /** As after a write to `create`; `bind: false` leaves the driver and VFIO's node for later. */
  mdev(parent: string, type: string, uuid: string, { bind = true, group = true }: { readonly bind?: boolean; readonly group?: boolean } = {}): void {
    const path = `sys/devices/virtual/${parent}/${parent}/${uuid}`;
    this.file(`${path}/remove`);
    mkdirSync(join(this.root, path, 'vendor')); // a directory of the driver's attributes, not an id
    mkdirSync(join(this.root, path, `vfio-dev/vfio${this.#numbers++}`), { recursive: true });
    this.symlink(`${path}/mdev_type`, `../mdev_supported_types/${type}`);
    if (group) this.symlink(`${path}/iommu_group`, `../../../../kernel/iommu_groups/${++this.#groups}`);
    this.symlink(`sys/bus/mdev/devices/${uuid}`, `../../../devices/virtual/${parent}/${parent}/${uuid}`);
    this.symlink(`sys/devices/virtual/${parent}/${parent}/mdev_supported_types/${type}/devices/${uuid}`, `../../../${uuid}`);
    if (bind) this.bind(parent, uuid);
  }

  bind(parent: string, uuid: string): void {
    this.file(`dev/vfio/${this.#groups}`);
    this.symlink(`sys/devices/virtual/${parent}/${parent}/${uuid}/driver`, `../../../../bus/mdev/drivers/${parent}`);
  }

  override async write(path: SysfsPath, text: string): Promise<void> {
    const refuse = (errno: number): never => { throw new BusError('ERR_BUS_SYSFS', `cannot write: ${errno}`, { errno }); };
    const attribute = path.at(-1);
    if (attribute === 'create') {
      const [, , parent, , type] = path as [string, string, string, string, string];
      const counter = join(this.root, 'sys', ...path.slice(0, -1), 'available_instances');
      if (!existsSync(counter)) refuse(2);
      if (existsSync(join(this.root, 'sys/bus/mdev/devices', text))) refuse(17);
      const available = Number(readFileSync(counter, 'utf8'));
      if (available === 0) refuse(87);
      this.#take(path.slice(0, -2), type, available);
      this.mdev(parent, type, text);
    } else if (attribute === 'remove') {
      const uuid = path.at(-2)!;
      const link = join(this.root, 'sys/bus/mdev/devices', uuid);
      if (!existsSync(link)) refuse(2);
      await this.closed;
      if (!existsSync(link)) refuse(19);
      rmSync(link);
    } else {
      await super.write(path, text);
    }
  }

  #take(types: SysfsPath, type: string, available: number): void {
    const counter = (id: string): string => join(this.root, 'sys', ...types, id, 'available_instances');
    const cost = this.#costs.get(type);
    if (cost === undefined) return writeFileSync(counter(type), `${available - 1}\n`);
    const left = (available - 1) * cost;
    for (const id of readdirSync(join(this.root, 'sys', ...types))) writeFileSync(counter(id), `${Math.floor(left / this.#costs.get(id)!)}\n`);
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }
}
