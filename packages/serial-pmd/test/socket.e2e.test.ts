/** Our own serial card, in a process of its own, over a vfio-user socket. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BusDevice, VfioUserSource } from '@emudev/bus-pci';
import { SerialCard, type SerialPort } from '@emudev/serial-pmd';
import { serialSuite } from './serial-suite.ts';

const folder = mkdtempSync(join(tmpdir(), 'serial-pmd-'));
const source = new VfioUserSource();

async function serve(name: string): Promise<{ readonly child: ChildProcess; readonly lines: Interface; readonly said: readonly string[]; open(): Promise<BusDevice> }> {
  const path = join(folder, name);
  const child = spawn(process.execPath, ['--no-warnings', fileURLToPath(new URL('device.process.ts', import.meta.url)), path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const said: string[] = [];
  lines.on('line', (line) => { said.push(line); });
  while (!said.includes('ready')) await once(lines, 'line');
  return { child, lines, said, open: () => BusDevice.open(source, { kind: 'vfio-user', path }) };
}

let card: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => { card = await serve('card.sock'); });
afterAll(async () => {
  card.child.kill('SIGTERM');
  await once(card.child, 'exit');
  rmSync(folder, { recursive: true });
});

describe('the suite', () => {
  for (const { title, run } of serialSuite({ open: () => card.open(), ports: 2, interrupts: ['intx', 'msi'], longBytes: 20_000 })) test(title, run);
});

async function receive(port: SerialPort, length: number): Promise<string> {
  let text = '';
  while (text.length < length) text += Buffer.from((await port.read())!).toString('latin1');
  return text;
}

describe('a line with another end', () => {
  test('bytes go out and come in, breaks are counted and are no bytes', async () => {
    await using open = await SerialCard.open(await card.open());
    const port = await open.openPort(0);
    await port.write(Buffer.from('hello!, is anybody there'));
    expect(await receive(port, 23)).toBe('HELLO, IS ANYBODY THERE');
    expect(port.counters).toMatchObject({ received: 23, transmitted: 24, breaks: 1, overruns: 0 });
  });

  test('the other end learns how the line is set up', async () => {
    await using open = await SerialCard.open(await card.open());
    const settings = { baud: 9600, dataBits: 7, parity: 'mark', stopBits: 2 } as const;
    await open.openPort(0, settings);
    while (!card.said.includes(JSON.stringify(settings))) await once(card.lines, 'line');
  });

  test('changes of the modem lines are told', async () => {
    await using open = await SerialCard.open(await card.open());
    const port = await open.openPort(0, { dtr: false, rts: true });
    const changes: unknown[] = [];
    const { promise: changed, resolve } = Promise.withResolvers<undefined>();
    using _observer = port.onModem((inputs) => {
      changes.push(inputs);
      if (inputs.dsr) resolve(undefined);
    });
    await port.setModem({ dtr: true });
    await changed;
    expect(changes.at(-1)).toEqual({ cts: true, dsr: true, dcd: true, ri: false });
    expect(await port.modem()).toEqual({ cts: true, dsr: true, dcd: true, ri: false });
  });

  test('a card whose process dies: readers and writers are told, the rest is refused, and closing frees everything', async () => {
    const doomed = await serve('doomed.sock');
    await using open = await SerialCard.open(await doomed.open());
    const port = await open.openPort(0);
    const reading = expect(port.read()).rejects.toMatchObject({ code: 'ERR_SERIAL_GONE' });
    const exited = once(doomed.child, 'exit');
    doomed.child.kill('SIGKILL');
    await exited;
    await reading;
    await expect(port.write(Uint8Array.of(1))).rejects.toMatchObject({ code: 'ERR_SERIAL_GONE' });
    await expect(open.openPort(1)).rejects.toMatchObject({ code: 'ERR_SERIAL_GONE' });
  });
});
