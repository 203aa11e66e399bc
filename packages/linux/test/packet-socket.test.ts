import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { FANOUT_MODES, countOpenFds, linux, type PacketSocketOptions } from '../src/index.ts';

const OPTIONS: PacketSocketOptions = { vnetHeader: true, qdiscBypass: true, bufferBytes: 1 << 16, ring: { blockBytes: 4096, blocks: 2, frameBytes: 2048, frames: 4 } };
const privileged = process.getuid?.() === 0 && spawnSync('ip', ['link', 'show', 'lo']).status === 0;

test('no such interface is ENODEV, and nothing stays open', () => {
  const before = countOpenFds();
  expect(() => linux.packetOpen('no-such-if', OPTIONS)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  expect(countOpenFds()).toBe(before);
});

describe.runIf(privileged)('a packet socket', () => {
  test('is in the group it was told to be in, and has no errors and no drops to tell', () => {
    const first = linux.packetOpen('lo', { ...OPTIONS, fanout: { mode: FANOUT_MODES.hash } });
    const group = linux.packetFanoutGroup(first);
    const second = linux.packetOpen('lo', { ...OPTIONS, fanout: { mode: FANOUT_MODES.hash, group } });
    expect(linux.packetFanoutGroup(second)).toBe(group);
    linux.packetPromiscuous(first, 'lo', true);
    linux.packetPromiscuous(first, 'lo', false);
    expect(linux.packetStatistics(first).drops).toBe(0);
    expect(linux.socketError(first)).toBe(0);
    linux.close(second);
    linux.close(first);
  });

  test('a ring that makes no sense is refused, and nothing stays open', () => {
    const before = countOpenFds();
    expect(() => linux.packetOpen('lo', { ...OPTIONS, ring: { blockBytes: 1000, blocks: 1, frameBytes: 2048, frames: 1 } })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(countOpenFds()).toBe(before);
  });

  test('messages are sent up to the first that fails, whose error is the next call\'s', () => {
    const fd = linux.packetOpen('lo', { ...OPTIONS, vnetHeader: false });
    const bytes = new Uint8Array(new ArrayBuffer(4096));
    const view = new DataView(bytes.buffer);
    const base = linux.addressOf(bytes.buffer);
    // Three struct mmsghdr of one struct iovec each, of 60, 0 and 60 bytes: too short for an Ethernet header is EINVAL.
    for (const [i, length] of [60, 0, 60].entries()) {
      view.setBigUint64(64 * i + 16, base + BigInt(1024 + 16 * i), true);
      view.setBigUint64(64 * i + 24, 1n, true);
      view.setBigUint64(1024 + 16 * i, base + 2048n, true);
      view.setBigUint64(1024 + 16 * i + 8, BigInt(length), true);
    }
    expect(linux.sendMessagesAt(fd, base, 3)).toBe(1);
    expect(() => linux.sendMessagesAt(fd, base + 64n, 2)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(linux.sendMessagesAt(fd, base + 128n, 1)).toBe(1);
    linux.close(fd);
  });

  test('an interface has a number and an MTU', () => {
    expect(linux.ifIndex('lo')).toBeGreaterThan(0);
    expect(linux.ifGetMtu('lo')).toBeGreaterThanOrEqual(1500);
    expect(() => linux.ifIndex('no-such-if')).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });
});
