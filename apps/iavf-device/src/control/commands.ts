/** What can be asked of a running process. A command is one entry: what it is for, what fields it takes, what it answers. */
import { resolve } from 'node:path';
import { parseVdev } from '@emudev/emudev';
import type { Launcher } from '../launcher.ts';
import { describeDevice, describeSwitches, portStatistics } from './describe.ts';
import { ControlError } from './errors.ts';
import { Fields, type FieldSpecs } from './fields.ts';

interface Command {
  readonly summary: string;
  readonly fields: FieldSpecs;
  /** What it answers survives JSON. */
  run(launcher: Launcher, fields: Fields): unknown;
}

const DEVICE = { kind: 'text', help: 'a name, as in emu_iavf0' } as const;
const PAIR = { kind: 'text', help: "two ports, as in net_iavf_be0=net_tap0, one to loop it back, or the ports of a switch, as in net_iavf_be0+net_iavf_be1+net_tap0" } as const;

export const COMMANDS: Readonly<Record<string, Command>> = {
  help: {
    summary: 'what can be asked',
    fields: {},
    run: () => Object.fromEntries(Object.entries(COMMANDS).map(([name, { summary, fields }]) => [name, { summary, fields }])),
  },
  drivers: {
    summary: 'what can be plugged in, and what it takes',
    fields: { driver: { kind: 'text', optional: true, help: 'this one only' } },
    run: async (launcher, fields) => ({ text: await launcher.bus.help(fields.optionalText('driver')) }),
  },
  list: {
    summary: 'the devices there are, and the ports that are connected',
    fields: {},
    run: (launcher) => ({ devices: launcher.bus.list().map((probed) => describeDevice(launcher, probed)), pairs: launcher.pairs }),
  },
  plug: {
    summary: 'make devices and connect ports: all of it, or nothing',
    fields: {
      vdev: { kind: 'texts', help: 'a device as --vdev writes it; a relative path= counts from where the process was started' },
      forward: { kind: 'texts', optional: true, help: 'pairs of ports as --forward writes them' },
    },
    run: async (launcher, fields) => {
      const vdevs = fields.texts('vdev');
      await launcher.plug({ vdevs, pairs: fields.texts('forward') });
      const served = new Map(launcher.served.map(({ name, path }) => [name, path]));
      return {
        plugged: vdevs.map((text) => {
          const { name } = parseVdev(text);
          const path = served.get(name);
          const place = launcher.bus.byName(name)?.device.place;
          return { name, ...(path === undefined ? {} : { path: resolve(path) }), ...(place === undefined ? {} : { place }) };
        }),
      };
    },
  },
  unplug: {
    summary: 'take devices out',
    fields: { device: { kind: 'texts', help: 'a name, as in emu_iavf0' }, force: { kind: 'flag', optional: true, help: 'also while they are in use: back ends go, too, pairs are disconnected, the connection of a virtual machine is cut' } },
    run: async (launcher, fields) => {
      await launcher.unplug(fields.texts('device'), { force: fields.flag('force') });
      return {};
    },
  },
  restart: {
    summary: 'stop and start an emulated device; its guest stays connected',
    fields: { device: DEVICE },
    run: async (launcher, fields) => {
      await launcher.restart(fields.text('device'));
      return {};
    },
  },
  reset: {
    summary: 'have an emulated device reset itself; its guest is not told',
    fields: { device: DEVICE },
    run: async (launcher, fields) => {
      await launcher.reset(fields.text('device'));
      return {};
    },
  },
  connect: {
    summary: 'connect two ports both ways, loop one back, or put ports on a switch',
    fields: { pair: PAIR },
    run: async (launcher, fields) => {
      await launcher.connect(fields.text('pair'));
      return {};
    },
  },
  disconnect: {
    summary: 'end the connection of ports, or of one and whatever it is connected to',
    fields: { pair: PAIR },
    run: async (launcher, fields) => {
      await launcher.disconnect(fields.text('pair'));
      return {};
    },
  },
  attributes: {
    summary: 'the attributes of an emulated device as text; null: this one has no text form',
    fields: { device: DEVICE },
    run: (launcher, fields) => {
      const emudev = launcher.emudev(fields.text('device'));
      return Object.fromEntries(emudev.attrNames().toSorted().map((name) => [name, textOrNull(() => emudev.getAttrText(name))]));
    },
  },
  get: {
    summary: 'one attribute of an emulated device',
    fields: { device: DEVICE, attribute: { kind: 'text', help: 'its name' } },
    run: (launcher, fields) => ({ value: launcher.emudev(fields.text('device')).getAttrText(fields.text('attribute')) }),
  },
  set: {
    summary: 'give an attribute of an emulated device another value',
    fields: { device: DEVICE, attribute: { kind: 'text', help: 'its name' }, value: { kind: 'text', help: 'as get writes it' } },
    run: (launcher, fields) => {
      const emudev = launcher.emudev(fields.text('device'));
      emudev.setAttrText(fields.text('attribute'), fields.text('value'));
      return { value: emudev.getAttrText(fields.text('attribute')) };
    },
  },
  'self-test': {
    summary: 'what an emulated device thinks of itself',
    fields: { device: DEVICE },
    run: (launcher, fields) => launcher.emudev(fields.text('device')).selfTest(),
  },
  stats: {
    summary: 'the counters of the ports, or of one',
    fields: { port: { kind: 'text', optional: true, help: 'its name' } },
    run: (launcher, fields) => ({ ports: portStatistics(launcher, fields.optionalText('port')) }),
  },
  switches: {
    summary: 'the switches: what became of frames at each port',
    fields: { addresses: { kind: 'flag', optional: true, help: 'also where each address is, and how long ago it was seen' } },
    run: (launcher, fields) => ({ switches: describeSwitches(launcher, fields.flag('addresses')) }),
  },
};

/** CLIENT: `request` is whatever JSON there was. Throws ControlError, and what the command throws. */
export async function execute(launcher: Launcher, request: unknown): Promise<unknown> {
  if (typeof request !== 'object' || request === null || Array.isArray(request)) throw new ControlError('ERR_CONTROL_SYNTAX', 'a request is a JSON object, as in {"command":"list"}');
  const name = 'command' in request ? request.command : undefined;
  const command = typeof name === 'string' && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    throw new ControlError('ERR_CONTROL_COMMAND', `${typeof name === 'string' ? `there is no command '${name.slice(0, 40)}'` : 'a request has a "command"'}; there are ${Object.keys(COMMANDS).join(', ')}`);
  }
  return command.run(launcher, new Fields(name as string, command.fields, request));
}

function textOrNull(get: () => string): string | null {
  try {
    return get();
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EMUDEV_UNSUPPORTED') return null;
    throw error;
  }
}
