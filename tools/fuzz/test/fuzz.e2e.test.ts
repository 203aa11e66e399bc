/** A minute of fuzzing with a fixed seed: half of it for the server, half for the client, each in a process of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { fuzzClient } from '../src/client/fuzz-client.ts';
import type { FuzzReport } from '../src/run.ts';
import { fuzzServer } from '../src/server/fuzz-server.ts';

const SEED = 20_260_921;
const SECONDS = 30;
const directory = mkdtempSync(join(tmpdir(), 'emudev-fuzz-report-'));
afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

/** What the fuzzers themselves check is thrown; this is that they did check something. */
function expectSubstance({ sessions, messages, replies, errors, before, after, text }: FuzzReport): void {
  expect(sessions, text).toBeGreaterThan(20);
  expect(messages, text).toBeGreaterThan(20_000);
  expect(errors, text).toBeGreaterThan(1000);
  expect(replies - errors, text).toBeGreaterThan(1000);
  expect(after!.descriptors, text).toBe(before!.descriptors);
  expect(after!.mappings, text).toBe(before!.mappings);
}

test('hostile clients: the server answers each command once and in order, stays alive, keeps nothing', async () => {
  expectSubstance(await fuzzServer({ seed: SEED, seconds: SECONDS, directory }));
});

test('hostile servers: the client fails by typed errors only, stays alive, keeps nothing', async () => {
  expectSubstance(await fuzzClient({ seed: SEED, seconds: SECONDS, directory }));
});
