/** Devices that rows ask for beside the plain FakeDevice. */
import { ConfigSpace, type ConfigSpaceLayout, type IoFd, type Migration, type MigrationState } from '@emudev/pci';
import { FakeDevice } from '../fixture.ts';

/** With a state that can be migrated: a stream of `saved`, in as many bytes at a time as are asked for. */
export class MigratableDevice extends FakeDevice {
  readonly tracksDirtyPages: boolean = true;
  saved: Uint8Array = Uint8Array.from({ length: 10 }, (_, i) => i + 1);
  readonly loaded: number[] = [];
  /** Thrown by the next call. */
  failure: Error | undefined;
  #read = 0;
  readonly migration: Migration = {
    preCopy: true,
    peerToPeer: false,
    enter: (state: MigrationState, from: MigrationState) => {
      this.log.push(`enter ${state} from ${from}`);
      this.#fail();
      this.#read = 0;
    },
    readState: (into: Uint8Array) => {
      this.#fail();
      const part = this.saved.subarray(this.#read, this.#read + into.length);
      into.set(part);
      this.#read += part.length;
      return part.length;
    },
    writeState: (from: Uint8Array) => {
      this.#fail();
      this.loaded.push(...from);
    },
  };

  #fail(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

/** With ioeventfds in BAR0, in the order they were created. */
export class IoFdDevice extends FakeDevice {
  readonly created: IoFd[] = [];
  ioFds(region: number): readonly IoFd[] {
    return region === 0 ? this.created : [];
  }
}

/** Region 7 is a real configuration space; the layout is the test's. */
export class ConfigDevice extends FakeDevice {
  readonly space: ConfigSpace;
  constructor(layout: ConfigSpaceLayout) {
    super();
    this.space = new ConfigSpace(layout, { onFlr: () => this.host!.functionLevelReset() });
    this.regions.splice(0, this.regions.length, this.space.region);
  }
  override read(region: number, offset: number, into: Uint8Array): void {
    if (region === 7) this.space.read(offset, into);
    else into.fill(0);
  }
  override write(region: number, offset: number, from: Uint8Array): void | Promise<void> {
    if (region === 7) return this.space.write(offset, from);
  }
}
