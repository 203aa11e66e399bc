/** The port suite, over sockets in the place of TAPs: it needs no privileges. The kernel's own behaviour is tap.e2e.test.ts's. */
import { test } from 'vitest';
import { linux, type Sys } from '@emudev/linux';
import { TapPort } from '@emudev/net-tap';
import { portConformance } from '@emudev/testkit';

/** A TAP is one end of a pair of sockets; closing it closes the other. */
function kernel(): Sys {
  const others = new Map<number, number>();
  return {
    ...linux,
    tapOpen: (name) => {
      const [ours, theirs] = linux.unixSocketPair();
      others.set(ours, theirs);
      return { fd: ours, name };
    },
    close: (fd) => {
      linux.close(fd);
      const other = others.get(fd);
      if (other !== undefined) linux.close(other);
    },
    ifSetMtu: () => {},
    ifGetMac: () => Uint8Array.of(2, 0, 0, 0, 0, 1),
    ifUp: () => {},
    ifFlags: () => ({ up: true, running: true }),
  };
}

for (const { title, run } of portConformance((name) => TapPort.open(name, { queues: 2 }, kernel()))) test(title, run);
