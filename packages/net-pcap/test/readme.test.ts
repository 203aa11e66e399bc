import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { captureFile, frame, readWritten } from './fixtures/captures.ts';
import { Folder } from './fixtures/rig.ts';

test('the example in the README runs', () => {
  using files = new Folder();
  files.put('in.pcap', captureFile([frame(1), frame(2)]));
  const folder = new URL('..', import.meta.url).pathname;
  const block = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${folder}README.md`, 'utf8'))![1]!;
  const code = block.replace('in.pcap', files.file('in.pcap')).replace('out.pcap', files.file('out.pcap'));
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module-typescript', '-e', code], { cwd: folder, encoding: 'utf8' });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  expect(stdout).toBe('2 frames turned round\n');
  const [first] = readWritten(files.get('out.pcap')).records;
  expect([...first!.data.slice(0, 12)]).toEqual([0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1]);
});
