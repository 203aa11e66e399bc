/**
 * Three families in one process and one guest, twice each: what happens to a network card, a serial card or an educational device (restarted, reset
 * under the guest, unplugged) is felt by nobody else. The other three carry traffic all the time, and lose nothing of it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '@emudev/iavf-device';
import { Guest } from '@emudev/guest';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bringUp, carrier, expectPing, expectUnbroken, nameCards } from './support/cards.ts';
import { asked } from './support/control.ts';
import { DeviceProcess } from './support/device-process.ts';
import { EchoLine } from './support/echo-line.ts';
import { qmp } from './support/qmp.ts';

const MACS = ['52:54:00:f0:00:00', '52:54:00:f0:00:01'] as const;
const FAMILIES = ['iavf', 'serial', 'edu'] as const;
const folder = mkdtempSync(join(tmpdir(), 'emudev-families-'));
const at = (name: string): string => join(folder, name);
/** Of number `i`: 0 is disturbed, 1 carries traffic. */
const family = (i: 0 | 1): { vdev: string[]; forward: string[] } => ({
  vdev: [
    `emu_iavf${i},path=${at(`iavf${i}`)},mac=${MACS[i]}`, `net_iavf_be${i},emu=emu_iavf${i}`, `net_echo${i}`,
    `emu_serial${i},path=${at(`serial${i}`)},ports=${2 - i}`, `serial_be${i},emu=emu_serial${i},to=unix,listen=${at(`line${i}`)},when-absent=hold`,
    `emu_edu${i},path=${at(`edu${i}`)}`,
  ],
  forward: [`net_iavf_be${i}=net_echo${i}`],
});

let device: DeviceProcess;
let control: ControlClient;
let guest: Guest;
let line: EchoLine;
let idle: number;
/** PCI addresses of the two educational devices, and terminals of the two serial cards' first ports, in the guest. */
let edus: string[];
let ttys: string[];

const ask = (command: string, fields: object = {}): Promise<unknown> => asked(control, command, fields);

/** The guest's part: an endless loop that computes factorials, and one that sends back what a terminal receives. */
const SCRIPTS = `
cat > /tmp/edu.sh <<'END'
setpci -s $1 COMMAND=6:6
bar=0x$(setpci -s $1 BASE_ADDRESS_0)
factorial=$((bar + 8)) status=$((bar + 32))
good=0 wrong=0
while :; do
  devmem $factorial 32 10
  while [ $(($(devmem $status 32) & 1)) = 1 ]; do :; done
  if [ $(devmem $factorial 32) = 0x00375F00 ]; then good=$((good + 1)); else wrong=$((wrong + 1)); fi
  echo "good $good wrong $wrong" > $2.new; mv $2.new $2
  [ "$3" = once ] && exit
done
END
cat > /tmp/echo.sh <<'END'
stty -F $1 raw -echo clocal 115200
exec cat < $1 > $1
END
`;

/** The guest sends back what this terminal receives. What came before it does would be echoed by the terminal, or forgotten. */
async function echoing(tty: string): Promise<void> {
  await guest.run(`setsid sh /tmp/echo.sh ${tty} < /dev/null > /dev/null 2>&1 &`);
  await guest.until('for p in /proc/[0-9]*; do readlink $p/fd/1; done', (output) => output.split('\n').includes(tty), { what: `an echo on ${tty}` });
}

const computed = async (): Promise<{ good: number; wrong: number }> => {
  const [, good, wrong] = /good (\d+) wrong (\d+)/.exec((await guest.run('cat /tmp/edu1')).output)!;
  return { good: Number(good), wrong: Number(wrong) };
};
const pinged = async (): Promise<number> => Number((await guest.run('grep -c "bytes from" /tmp/ping1 || true')).output);

beforeAll(async () => {
  const one = family(1);
  device = await DeviceProcess.start([...one.vdev.flatMap((text) => ['--vdev', text]), ...one.forward.flatMap((pair) => ['--forward', pair]), '--control', at('ctl'), '--log-level', 'warn']);
  await device.says(/control socket: listens on/);
  control = await ControlClient.connect(at('ctl'));
  await ask('plug', family(0));
  await ask('unplug', { device: ['emu_iavf0', 'emu_serial0', 'emu_edu0', 'net_echo0'], force: true });
  idle = device.descriptors();
  await ask('plug', family(0));
  guest = await Guest.boot({
    sockets: FAMILIES.map((name) => at(`${name}1`)),
    // Those that are to be unplugged sit in slots of their own.
    extraArgs: [
      ...FAMILIES.flatMap((name, i) => ['-device', `pcie-root-port,id=slot-${name},chassis=${i + 1}`, '-device', JSON.stringify({ driver: 'vfio-user-pci', id: name, bus: `slot-${name}`, socket: { type: 'unix', path: at(`${name}0`) } })]),
      '-qmp', `unix:${at('qmp')},server=on,wait=off`,
    ],
    kernelArgs: '8250.nr_uarts=8',
  });
  await guest.run(SCRIPTS);
  await nameCards(guest, MACS);
  // Number 1 is on the root bus.
  const addresses = async (id: string): Promise<string[]> => (await guest.run(`lspci -D -d ${id} | cut -d" " -f1`)).output.trim().split('\n').sort().reverse();
  edus = await addresses('1234:11e8');
  const cards = await addresses('4348:3253');
  const { output: kernel } = await guest.run('dmesg');
  ttys = cards.map((address) => `/dev/${new RegExp(`${address.replaceAll('.', '\\.')}: (ttyS\\d+) at .* is a 16550A`).exec(kernel)![1]!}`);
  for (const i of [0, 1]) {
    await bringUp(guest, `card${i}`);
    await guest.run(`ip addr add 10.0.2.${10 + i}/32 dev card${i}; ip route add table ${100 + i} 10.0.2.0/24 dev card${i}; ip rule add from 10.0.2.${10 + i} table ${100 + i}`);
    await expectPing(guest, '10.0.2.2', `-I 10.0.2.${10 + i}`);
  }
  await guest.run(`
    ping -I 10.0.2.11 -i 0.05 -W 10 10.0.2.2 > /tmp/ping1 2>&1 & echo $! > /tmp/ping1.pid
    sh /tmp/edu.sh ${edus[1]} /tmp/edu1 < /dev/null > /dev/null 2>&1 &
  `);
  for (const tty of ttys) await echoing(tty);
  line = await EchoLine.open(at('line1'));
  line.start();
});

afterAll(async () => {
  line?.[Symbol.dispose]();
  control?.[Symbol.dispose]();
  await guest?.[Symbol.asyncDispose]();
  await device?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** All three bystanders get on, and have lost nothing so far. */
async function expectBystanders(): Promise<void> {
  const [{ good }, answers] = [await computed(), await pinged()];
  await line.more(50);
  await guest.until('cat /tmp/edu1', (text) => Number(/good (\d+)/.exec(text)?.[1]) > good + 3, { what: 'more factorials' });
  await guest.until('grep -c "bytes from" /tmp/ping1', (text) => Number(text) > answers + 10, { what: 'more answers' });
  expect((await computed()).wrong).toBe(0);
  expect(line.wrong).toEqual([]);
}

async function expectEcho(): Promise<void> {
  using zero = await EchoLine.open(at('line0'));
  zero.start();
  await zero.more(100);
  await zero.finish();
  expect(zero.wrong).toEqual([]);
}

async function expectFactorial(): Promise<void> {
  expect((await guest.run(`sh /tmp/edu.sh ${edus[0]} /tmp/edu0 once; cat /tmp/edu0`)).output).toContain('good 1 wrong 0');
}

describe('while the others carry traffic', () => {
  afterEach(async (context) => {
    // The last test has stopped one of them.
    if (!context.task.name.startsWith('and the bystanders')) await expectBystanders();
  });

  describe('the network card', () => {
    test('restarted: its carrier comes back by itself', async () => {
      await ask('restart', { device: 'emu_iavf0' });
      await carrier(guest, 'card0', '1');
      await expectPing(guest, '10.0.2.2', '-I 10.0.2.10');
    });

    test('reset under its driver, which finds out and recovers', async () => {
      await ask('reset', { device: 'emu_iavf0' });
      await guest.until('ping -c 1 -W 1 -I 10.0.2.10 10.0.2.2', (o) => o.includes(' 1 received'), { what: 'an answer after the reset', timeoutMs: 60_000 });
      await expectPing(guest, '10.0.2.2', '-I 10.0.2.10');
    });
  });

  describe('the serial card', () => {
    test('restarted: not a byte is missing', async () => {
      using zero = await EchoLine.open(at('line0'));
      zero.start();
      await zero.more(20);
      await ask('restart', { device: 'emu_serial0' });
      await zero.more(50);
      await zero.finish();
      expect(zero.wrong).toEqual([]);
    });

    test('reset under its driver: works for whoever opens the port next', async () => {
      await ask('reset', { device: 'emu_serial0' });
      await guest.run(`for p in /proc/[0-9]*; do [ "$(readlink $p/fd/0)" = ${ttys[0]} ] && kill -9 \${p#/proc/}; done; true`, { check: false });
      await echoing(ttys[0]!);
      await expectEcho();
    });
  });

  describe('the educational device', () => {
    test('restarted, it computes', async () => {
      await ask('restart', { device: 'emu_edu0' });
      await expectFactorial();
    });

    test('reset under the guest, it is as new', async () => {
      const liveness = `devmem $((0x$(setpci -s ${edus[0]} BASE_ADDRESS_0) + 4)) 32`;
      expect((await guest.run(`${liveness} 0; ${liveness} 0x5a5a5a5a; ${liveness}`)).output.trim()).toBe('0xA5A5A5A5');
      await ask('reset', { device: 'emu_edu0' });
      expect((await guest.run(`setpci -s ${edus[0]} COMMAND=6:6; ${liveness}`)).output.trim()).toBe('0xFFFFFFFF');
      await expectFactorial();
    });
  });

  describe('all of them', () => {
    test.each([
      ['edu', '1234:11e8', ['emu_edu0']],
      ['serial', '4348:3253', ['emu_serial0', 'serial_be0']],
    ])('%s: taken out of the guest and unplugged', async (name, id, devices) => {
      expect(await control.ask({ command: 'unplug', device: devices })).toMatchObject({ ok: false, error: { code: 'EMUDEV_BAD_STATE' } });
      await qmp(at('qmp'), 'device_del', { id: name });
      await guest.until(`lspci -n -d ${id}`, (output) => output.trim().split('\n').length === 1, { what: `the guest with one ${name}`, timeoutMs: 60_000 });
      // QEMU closes its connection behind the guest's back.
      while (!(await control.ask({ command: 'unplug', device: devices })).ok) await sleep(20);
    });

    test('iavf: let go of by the guest, and unplugged by force: the machine keeps a slot in which nobody answers', async () => {
      await guest.run('echo 1 > /sys/bus/pci/devices/$(basename $(readlink /sys/class/net/card0/device))/remove');
      await ask('unplug', { device: ['emu_iavf0', 'net_iavf_be0', 'net_echo0'], force: true });
    });

    test('and the bystanders have lost nothing in all that time', async () => {
      expectUnbroken((await guest.run('kill -INT $(cat /tmp/ping1.pid); while kill -0 $(cat /tmp/ping1.pid); do sleep 0.1; done; cat /tmp/ping1')).output);
    });
  });
});

test('when the guest has gone, every descriptor has, too', async () => {
  line[Symbol.dispose]();
  await guest.kill();
  const deadline = performance.now() + 20_000;
  while (device.descriptors() > idle && performance.now() < deadline) await sleep(20);
  expect(device.descriptors()).toBe(idle);
});
