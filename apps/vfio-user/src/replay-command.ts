/** `vfio-user replay FILE CONNECT`. */
import { readFileSync, statSync } from 'node:fs';
import { describeMessage } from '@emudev/vfio-user-protocol';
import type { Command } from 'commander';
import { CommandError, EXIT_CONNECT, EXIT_DEVICE, usage, withFile } from './exit.ts';
import { parseSeconds, whyUnreachable } from './connect.ts';
import { MAX_CAPTURE_BYTES, MAX_IGNORED, MAX_PRINTED_DIFFERENCES } from './limits.ts';
import { CaptureError } from './pcapng/errors.ts';
import { printable } from './printable.ts';
import { parseIgnored, type Ignored } from './replay/ignore.ts';
import { readRecording, type RecordedMessage } from './replay/recording.ts';
import { ReplayError } from './replay/recreate.ts';
import { replaySession, type Difference } from './replay/replayer.ts';

interface Options {
  readonly ignore?: readonly Ignored[];
  readonly session?: number;
  readonly asRecorded?: true;
  readonly timeout: number;
}

export function replayCommand(program: Command): void {
  program.command('replay').argument('<file>', 'a capture that trace --pcapng made').argument('<connect>', 'socket of the server')
    .description('play the client of a capture against a server and compare its replies')
    .option('--ignore <what>', 'do not compare: COMMAND, COMMAND:+OFFSET:BYTES (of the payload), REGION_READ:REGION+OFFSET:BYTES (repeat for several)', addIgnored)
    .option('--session <n>', 'only this session of the capture', parseSession)
    .option('--as-recorded', 'keep the pauses of the recording; otherwise each request goes as soon as the replies before it are there')
    .option('--timeout <seconds>', 'how long to wait for each reply', parseSeconds, 5)
    .addHelpText('after', `
Examples:
  vfio-user trace t.sock d.sock --pcapng good.pcapng     record once, with a device that works
  vfio-user replay good.pcapng d.sock                    0: it still answers the same, 1: it does not
  vfio-user replay good.pcapng d.sock --ignore REGION_READ:BAR0+0x8:4 --ignore VERSION`)
    .action((file: string, connect: string, options: Options) => replay(file, connect, options));
}

async function replay(file: string, connect: string, options: Options): Promise<void> {
  const sessions = load(file);
  if (options.session !== undefined && !sessions.has(options.session)) throw usage(`${file} has no session ${options.session}; it has ${[...sessions.keys()].join(', ') || 'none'}`);
  let sent = 0;
  let compared = 0;
  let different = 0;
  for (const [session, messages] of sessions) {
    if (options.session !== undefined && session !== options.session) continue;
    let result;
    try {
      result = await replaySession(messages, connect, { ignored: options.ignore ?? [], timeoutMs: options.timeout * 1000, ...(options.asRecorded === true ? { asRecorded: true } : {}) });
    } catch (error) {
      if (error instanceof ReplayError) throw usage(`${file}, session ${session}: ${error.message}`);
      if (error instanceof Error && 'syscall' in error && error.syscall === 'connect') throw new CommandError(EXIT_CONNECT, ('errno' in error ? whyUnreachable(connect, Number(error.errno)) : undefined) ?? error.message, { cause: error });
      throw error;
    }
    sent += result.sent;
    compared += result.compared;
    for (const difference of result.differences) {
      if (different++ < MAX_PRINTED_DIFFERENCES) process.stdout.write(`${differenceText(session, difference)}\n`);
    }
  }
  process.stdout.write(`${sent} messages sent, ${compared} replies compared, ${different === 0 ? 'all equal' : `${different} ${different === 1 ? 'difference' : 'differences'}`}\n`);
  if (different > 0) throw new CommandError(EXIT_DEVICE, 'the server does not answer as it did in the recording');
}

function load(file: string): Map<number, RecordedMessage[]> {
  const bytes = withFile(file, () => statSync(file).size);
  if (bytes > MAX_CAPTURE_BYTES) throw usage(`${file} has ${bytes} bytes, at most ${MAX_CAPTURE_BYTES} can be replayed`);
  try {
    const sessions = readRecording(withFile(file, () => readFileSync(file)));
    if (sessions.size === 0) throw usage(`${file} holds no message`);
    return sessions;
  } catch (error) {
    if (error instanceof CaptureError) throw usage(`${file}: ${error.message}`);
    throw error;
  }
}

/** The message, then each field as it was (-) and as it is (+). */
export function differenceText(session: number, { message, what }: Difference): string {
  const about = message === undefined ? '' : ` ${messageText(message)}`;
  if (typeof what === 'string') return `#${session}${about}: ${printable(what)}`;
  return [`#${session}${about}:`, ...what.flatMap(({ field, recorded, replayed }) => [`  - ${field}=${printable(recorded)}`, `  + ${field}=${printable(replayed)}`])].join('\n');
}

/** The command, or for a reply the command it answers. */
function messageText(message: RecordedMessage): string {
  const asked = message.kind === 'reply' ? (message.partner ?? message) : message;
  if (asked.header === undefined) return `message ${asked.number}`;
  const { name, fields } = describeMessage(asked.header, asked.payload);
  return `message ${asked.number}, ${asked === message && message.kind === 'reply' ? 'reply to ' : ''}${name}(${fields.filter((f) => f.name !== 'argsz').map((f) => `${f.name}=${f.value}`).join(', ')})`;
}

function addIgnored(text: string, before: readonly Ignored[] = []): Ignored[] {
  if (before.length >= MAX_IGNORED) throw usage(`more than ${MAX_IGNORED} --ignore`);
  try {
    return [...before, parseIgnored(text)];
  } catch (error) {
    if (error instanceof RangeError) throw usage(`--ignore: ${error.message}`);
    throw error;
  }
}

function parseSession(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw usage(`--session takes a number, not "${text}"`);
  return Number(text);
}
