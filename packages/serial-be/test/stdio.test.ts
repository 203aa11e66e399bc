import { describe, expect, test } from 'vitest';
import { EscapeParser } from '../src/escape.ts';

function feed(...reads: string[]): string[] {
  const log: string[] = [];
  const parser = new EscapeParser({
    data: (bytes) => log.push(Buffer.from(bytes).toString('latin1')),
    quit: () => log.push('<quit>'), break: () => log.push('<break>'), help: () => log.push('<help>'),
  });
  for (const read of reads) parser.feed(Buffer.from(read, 'latin1'));
  return log;
}

describe('the escape character', () => {
  test.each([
    ['nothing of it', ['hello'], ['hello']],
    ['quit', ['ab\x01xcd'], ['ab', '<quit>', 'cd']],
    ['in capitals', ['\x01X'], ['<quit>']],
    ['over two reads', ['ab\x01', 'bcd'], ['ab', '<break>', 'cd']],
    ['twice is one', ['a\x01\x01b'], ['a', '\x01b']],
    ['four times is two', ['\x01\x01\x01\x01'], ['\x01', '\x01']],
    ['anything else is no command, and is not sent', ['\x01q1'], ['<help>', '1']],
  ])('%s', (_what, reads, log) => { expect(feed(...reads)).toEqual(log); });
});
