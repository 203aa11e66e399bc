/** The fake tree and the fake VFIO as one kernel with the three sample drivers: what is made in sysfs can be opened, and is announced. */
import type { SysfsPath } from '../src/index.ts';
import { FakeKernel } from './fake-kernel.ts';
import { FakeVfio, type FakeModel } from './fake-vfio.ts';
import { fakeMbochs, fakeMdpy, fakeMtty } from './fake-vfio-models.ts';

const MODELS: Readonly<Record<string, () => FakeModel>> = {
  'mtty-1': () => fakeMtty(1), 'mtty-2': () => fakeMtty(2), 'mdpy-vga': fakeMdpy, 'mbochs-medium': fakeMbochs,
};

export class FakeMdevKernel extends FakeKernel {
  readonly vfio: FakeVfio;
  readonly #nodes: boolean;

  /** `nodes`: devices have nodes of their own. */
  constructor({ nodes = false }: { readonly nodes?: boolean } = {}) {
    super();
    this.#nodes = nodes;
    this.vfio = new FakeVfio(this);
    const display = (size: string): { available: number; cost: number; description: string } => ({ available: 4, cost: 1, description: `virtual display, ${size} framebuffer` });
    this.parent('mtty', { 'mtty-1': { available: 24, cost: 1, name: 'Single port serial' }, 'mtty-2': { available: 12, cost: 2, name: 'Dual port serial' } });
    this.parent('mdpy', { 'mdpy-vga': display('640x480'), 'mdpy-xga': display('1024x768'), 'mdpy-hd': display('1920x1080') });
    this.parent('mbochs', { 'mbochs-small': { available: 64, cost: 4 }, 'mbochs-medium': { available: 16, cost: 16 }, 'mbochs-large': { available: 4, cost: 64 } });
  }

  override async write(path: SysfsPath, text: string): Promise<void> {
    const attribute = path.at(-1);
    if (attribute === 'remove') await this.vfio.whenClosed(path.at(-2)!);
    await super.write(path, text);
    if (attribute === 'create') await this.#made(path.at(-2)!, text);
    if (attribute === 'remove') this.#removed(path.at(-2)!);
  }

  async #made(type: string, uuid: string): Promise<void> {
    const device = ['bus', 'mdev', 'devices', uuid];
    const group = Number(await this.linkName([...device, 'iommu_group']));
    const [node] = await this.list([...device, 'vfio-dev']) ?? [];
    this.vfio.device(uuid, group, MODELS[type]!(), this.#nodes ? node : undefined);
    for (const action of ['add', 'bind']) this.#announce(action, uuid);
  }

  #removed(uuid: string): void {
    this.vfio.removed(uuid);
    for (const action of ['unbind', 'remove']) this.#announce(action, uuid);
  }

  #announce(action: string, uuid: string): void {
    this.vfio.announce(action, `/devices/virtual/mtty/mtty/${uuid}`, { SUBSYSTEM: 'mdev' });
  }
}
