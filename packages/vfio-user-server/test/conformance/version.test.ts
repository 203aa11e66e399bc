import { linux } from '@emudev/linux';
import { QEMU } from '@emudev/vfio-user-protocol';
import { describe, expect, it } from 'vitest';
import { nextEvent, serve } from '../fixture.ts';
import { CH_VERSION, ERROR, fields, header, LVU_VERSION, message, QEMU_VERSION, RawClient, REPLY, u32, version } from '../raw-client.ts';
import { caps, EINVAL, GET_INFO, info, VERSION } from '../requests.ts';
import { conformance, usable, type Exchange, type Rig, type Row } from './suite.ts';

const unnegotiated = (): { version: null } => ({ version: null });
const refused = (title: string, ...payloads: readonly Uint8Array[]): Row => ({
  title: `${title}: EINVAL, closed, and the device never hears of it`,
  given: unnegotiated,
  exchanges: payloads.map((payload): Exchange => ({ send: [VERSION, payload], reply: EINVAL })),
  run: ({ device }) => { expect(device.log).toEqual([]); },
  after: 'closed',
});

/** What a device without migration announces. QEMU allows a reply no more than its own 214 bytes, and queues all it sends when told of write_multiple. */
const TO_QEMU = { max_msg_fds: 16, max_data_xfer_size: 1048576, max_dma_maps: 65535, pgsizes: 4096 };
const OURS = { ...TO_QEMU, write_multiple: true };
async function negotiate(client: RawClient, payload: Uint8Array, minor: number, expected: object = minor === 0 ? TO_QEMU : OURS): Promise<void> {
  const reply = await client.request(VERSION, payload);
  expect([reply.flags, u32(reply.payload, 0) & 0xffff, u32(reply.payload, 0) >>> 16]).toEqual([REPLY, 0, minor]);
  expect(reply.size).toBeLessThanOrEqual(200);
  expect(capabilitiesOf(reply.payload)).toEqual(expected);
}
function capabilitiesOf(payload: Uint8Array): unknown {
  const text = new TextDecoder().decode(payload.subarray(4));
  expect(text.endsWith('\0')).toBe(true);
  return (JSON.parse(text.slice(0, -1)) as { capabilities: unknown }).capabilities;
}
const accepted = (title: string, payload: Uint8Array): Row => ({
  title: `${title}: 0.2 and our capabilities, NUL-terminated`,
  given: unnegotiated,
  run: async ({ client, device }: Rig) => {
    await negotiate(client, payload, 2);
    expect(device.take()).toEqual(['attach']);
  },
});

conformance('version', {
  V1: refused('a header without payload', new Uint8Array(0)),
  V2: {
    title: 'longer than any VERSION: closed (better: with an EINVAL reply)',
    given: unnegotiated,
    run: async ({ client }) => {
      client.send(header(7, VERSION, 1 << 20));
      expect(await client.next()).toMatchObject({ id: 7, command: VERSION, flags: REPLY | ERROR, errno: EINVAL, size: 16 });
    },
    after: 'closed',
  },
  V3: { title: 'another command first: EINVAL, closed', given: unnegotiated, exchanges: [{ send: [999, fields(1)], reply: EINVAL }, { send: [GET_INFO, info], reply: EINVAL }], after: 'closed' },
  V4: refused('major version 999', version('{}', 999)),
  V5: refused('JSON without its NUL', version('{}').subarray(0, 6)),
  V6: refused('JSON that is cut off', version('{'), version('"')),
  V7: refused('capabilities that are no object', caps('"x"'), caps('[]'), caps('null')),
  V8: refused('max_msg_fds a string, negative, above 1024', caps('{"max_msg_fds":"1"}'), caps('{"max_msg_fds":-1}'), caps('{"max_msg_fds":1025}')),
  V9: refused('migration that is no object', caps('{"migration":1}')),
  V10: refused('migration.pgsize a string or 4095 (better: whether or not this device migrates)', caps('{"migration":{"pgsize":"x"}}'), caps('{"migration":{"pgsize":4095}}')),
  V11: accepted('no JSON at all', version(undefined)),
  V12: accepted('an empty object', version('{}')),
  V13: accepted('the largest values', caps('{"max_msg_fds":1024,"max_data_xfer_size":1048576}')),
  V14: {
    title: 'the client leaves: the next one is served',
    run: async ({ client, server, device }) => {
      const gone = nextEvent('disconnect');
      client.close();
      expect(await gone).toMatchObject({ reason: 'closed' });
      const [ours, theirs] = linux.unixSocketPair();
      server.adoptConnection(ours);
      const next = new RawClient(theirs);
      await negotiate(next, LVU_VERSION, 2);
      await usable(next);
      expect(device.take()).toEqual(['attach', 'quiesce detach', 'detach closed', 'resume', 'attach']);
      next.close();
    },
    after: 'ended',
  },
  V15: {
    title: 'twin_socket wished for: granted, with one descriptor at index 0; not wished for, or no descriptors taken: not granted',
    given: unnegotiated,
    run: async ({ client, own }) => {
      const reply = await client.request(VERSION, caps('{"max_msg_fds":8,"twin_socket":{"supported":true}}'));
      expect(capabilitiesOf(reply.payload)).toEqual({ ...OURS, twin_socket: { supported: true, fd_index: 0 } });
      expect(reply.fds).toHaveLength(1);
      own(reply.fds[0]!);
      for (const unasked of ['{"twin_socket":{"supported":false}}', '{"max_msg_fds":0,"twin_socket":{"supported":true}}']) {
        await using other = await serve({ version: null });
        const plain = await other.client.request(VERSION, caps(unasked));
        expect(capabilitiesOf(plain.payload)).toEqual(OURS);
        expect(plain.fds).toEqual([]);
      }
    },
  },
  V16: {
    title: 'with a descriptor: closed without a reply',
    given: unnegotiated,
    run: async ({ client, eventfd }) => {
      client.send(message(1, VERSION, LVU_VERSION), [eventfd()]);
      await client.closed;
      expect(client.received).toBe(0);
    },
    after: 'closed',
  },
});

describe('beyond the list', () => {
  it.each<[string, Uint8Array, number]>([['QEMU', QEMU_VERSION, 0], ['Cloud Hypervisor', CH_VERSION, 1], ['libvfio-user', LVU_VERSION, 2], ['a newer minor', version('{}', 0, 9), 2]])(
    '%s is answered its own minor version at most, in a reply shorter than any client\'s buffer', async (_name, payload, minor) => {
      await using s = await serve({ version: null });
      await negotiate(s.client, payload, minor);
    });

  it('a profile that is forced bounds the minor version', async () => {
    await using s = await serve({ version: null, server: { peer: QEMU } });
    await negotiate(s.client, LVU_VERSION, 0);
  });

  it('once more, later: EINVAL, the session goes on', async () => {
    await using s = await serve();
    expect(await s.client.errno(VERSION, LVU_VERSION)).toBe(EINVAL);
    await usable(s.client);
  });
});
