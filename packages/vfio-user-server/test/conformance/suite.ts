/** Runs the rows of one section: each against its own server over a socket pair, by a client that knows only bytes. */
import { countOpenFds, linux } from '@emudev/linux';
import { beforeAll, describe, expect, it } from 'vitest';
import type { VfioUserServer, VfioUserServerOptions } from '../../src/index.ts';
import type { FakeDevice} from '../fixture.ts';
import { memfd, serve, window } from '../fixture.ts';
import { ERROR, REPLY, u32, type RawClient } from '../raw-client.ts';
import { GET_INFO, info } from '../requests.ts';
import { SECTIONS, type Section } from './ids.ts';

export interface Rig {
  readonly client: RawClient;
  readonly device: FakeDevice;
  readonly server: VfioUserServer;
  /** Closed with the row, as are those that the next two make. */
  own(fd: number): number;
  eventfd(initial?: number): number;
  memfd(lengthBytes: number): number;
}

/** One request and what must come back. */
export interface Exchange {
  readonly send: readonly [command: number, payload: Uint8Array];
  /** So many eventfds go with it. */
  readonly fds?: number;
  /** An errno: a header-only error reply (0: success, whatever the payload). Bytes: success with exactly this payload, without descriptors. */
  readonly reply: number | Uint8Array;
}

export interface Row {
  readonly title: string;
  /** The FakeDevice of fixture.ts, negotiated as libvfio-user's client, unless it says otherwise. `version: null`: not negotiated. */
  readonly given?: (own: (fd: number) => number) => { readonly device?: FakeDevice; readonly version?: Uint8Array | null; readonly server?: Partial<VfioUserServerOptions> };
  readonly exchanges?: readonly Exchange[];
  readonly run?: (rig: Rig) => void | Promise<void>;
  /** What becomes of the connection: it stays usable (the default), the server closes it (after each exchange), or the row itself has ended it. */
  readonly after?: 'usable' | 'closed' | 'ended';
}

export function conformance(section: Section, rows: Readonly<Record<string, Row>>): void {
  const expected = SECTIONS[section];
  describe(section, () => {
    // Things that a process opens once and keeps: epoll, the watcher's thread.
    beforeAll(async () => { await using _warm = await serve(); });

    it('has every row of the list', () => { expect(Object.keys(rows)).toEqual(expected); });

    for (const [id, row] of Object.entries(rows)) {
      it(`${id} ${row.title}`, async () => {
        const before = open();
        // An exchange that ends the connection needs one of its own.
        const runs = row.after === 'closed' && row.exchanges !== undefined ? row.exchanges.map((exchange) => [exchange]) : [row.exchanges ?? []];
        for (const exchanges of runs) await play(row, exchanges);
        expect(open()).toEqual(before);
      });
    }
  });
}

const open = (): { fds: number; mappings: number } => ({ fds: countOpenFds(), mappings: window.mappingCount });

async function play(row: Row, exchanges: readonly Exchange[]): Promise<void> {
  using owned = new DisposableStack();
  const own = (fd: number): number => {
    owned.defer(() => { linux.close(fd); });
    return fd;
  };
  await using served = await serve(row.given?.(own) ?? {});
  const rig: Rig = { client: served.client, device: served.device, server: served.server, own, eventfd: (initial = 0) => own(linux.eventfd(initial)), memfd: (length) => own(memfd(length)) };
  for (const exchange of exchanges) await check(rig, exchange);
  await row.run?.(rig);
  if (row.after === 'closed') await rig.client.closed;
  else if (row.after !== 'ended') await usable(rig.client);
}

async function check(rig: Rig, { send: [command, payload], fds = 0, reply }: Exchange): Promise<void> {
  const got = await rig.client.request(command, payload, Array.from({ length: fds }, () => rig.eventfd()));
  for (const fd of got.fds) linux.close(fd);
  if (typeof reply !== 'number') expect({ flags: got.flags, payload: got.payload, fds: got.fds.length }).toEqual({ flags: REPLY, payload: reply, fds: 0 });
  else if (reply === 0) expect({ flags: got.flags, errno: got.errno }).toEqual({ flags: REPLY, errno: 0 });
  else expect({ flags: got.flags, errno: got.errno, size: got.size, fds: got.fds.length }).toEqual({ flags: REPLY | ERROR, errno: reply, size: 16, fds: 0 });
}

export async function usable(client: RawClient): Promise<void> {
  const reply = await client.request(GET_INFO, info);
  expect([reply.flags, u32(reply.payload, 8), u32(reply.payload, 12)]).toEqual([REPLY, 9, 5]);
}
