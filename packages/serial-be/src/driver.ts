import { EmudevError, integerArg, oneOfArg, pathArg, stringArg, type Emudev, type VdevDriver } from '@emudev/emudev';
import { linux } from '@emudev/linux';
import { MAX_PORTS } from '@emudev/serial-emu/contract';
import { SerialBackEnd, type SerialBackEndOptions } from './back-end.ts';
import { PtyFarEnd } from './pty.ts';
import { SocketFarEnd, type SocketAddress } from './socket.ts';
import { StdioFarEnd } from './stdio.ts';

/** Arguments of `serial_be`. */
export interface SerialBackEndArgs {
  readonly emu: string;
  readonly port: number;
  readonly to: 'pty' | 'tcp' | 'unix' | 'stdio';
  readonly link?: string;
  readonly listen?: string;
  readonly connect?: string;
  readonly 'when-absent': 'discard' | 'hold';
  readonly flow: 'rtscts' | 'none';
}

const DEFAULT_HOST = '127.0.0.1';
/** Processes have one standard input; a second back end would get every other byte of it. */
let stdioOwner: string | undefined;

/** `[HOST:]PORT`, with an IPv6 address in brackets. undefined: no such thing. */
export function parseTcpAddress(text: string, host: string | undefined): { host: string; port: number } | undefined {
  const match = /^(?:(?:\[([^\]]+)\]|([^:]+)):)?(\d{1,5})$/.exec(text);
  const found = match?.[1] ?? match?.[2] ?? host;
  const port = Number(match?.[3]);
  return match === null || found === undefined || port > 65_535 ? undefined : { host: found, port };
}

type FarEndMaker = SerialBackEndOptions['farEnd'];

function bad(name: string, message: string): EmudevError {
  return new EmudevError('EMUDEV_BAD_ARG', `${name}: ${message}`);
}

function socketMaker(name: string, args: SerialBackEndArgs): FarEndMaker {
  const { to, listen, connect } = args;
  if ((listen === undefined) === (connect === undefined)) throw bad(name, `to=${to} needs one of listen= and connect=`);
  const mode = listen === undefined ? 'connect' : 'listen';
  const text = listen ?? connect!;
  let address: SocketAddress | undefined;
  if (to === 'unix') address = { path: text };
  else address = parseTcpAddress(text, mode === 'listen' ? DEFAULT_HOST : undefined);
  if (address === undefined || ('port' in address && mode === 'connect' && address.port === 0)) {
    throw bad(name, `${mode}=${text}: must be ${mode === 'listen' ? '[HOST:]PORT' : 'HOST:PORT'}, as in 127.0.0.1:5000 or [::1]:5000`);
  }
  const options = { mode, address, name } as const;
  return (events) => SocketFarEnd.open(options, events);
}

function maker(name: string, args: SerialBackEndArgs): FarEndMaker {
  const { to, link, listen, connect } = args;
  if (to !== 'pty' && link !== undefined) throw bad(name, `link= is for to=pty, not for to=${to}`);
  if (to === 'tcp' || to === 'unix') return socketMaker(name, args);
  if (listen !== undefined || connect !== undefined) throw bad(name, `listen= and connect= are for to=tcp and to=unix, not for to=${to}`);
  if (to === 'pty') return (events) => new PtyFarEnd({ sys: linux, link }, events);
  return (events) => {
    if (stdioOwner !== undefined) throw new EmudevError('EMUDEV_EXISTS', `${name}: ${stdioOwner} has standard input and output already`);
    const farEnd = new StdioFarEnd({ sys: linux }, events);
    stdioOwner = name;
    return {
      place: farEnd.place,
      ownsStdio: farEnd.ownsStdio,
      write: (bytes) => farEnd.write(bytes),
      setReading: (on) => { farEnd.setReading(on); },
      close: () => {
        stdioOwner = undefined;
        farEnd.close();
      },
    };
  };
}

function find(name: string, emu: string, found: Emudev | undefined): Emudev {
  if (found === undefined) throw new EmudevError('EMUDEV_NOENT', `${name}: there is no emulated device '${emu}'; name it before this one`);
  return found;
}

/** `--vdev 'serial_be0,emu=emu_serial0,port=0,to=pty,link=/tmp/vm0'` */
export const driver: VdevDriver<SerialBackEndArgs, SerialBackEnd> = {
  name: 'serial_be',
  class: 'backend',
  summary: 'what a port of a serial card is connected to: a pseudo terminal, a socket, standard input and output',
  args: {
    emu: stringArg({ help: 'the card, named earlier on the command line', placeholder: 'NAME', required: true }),
    port: integerArg({ help: 'port of the card', min: 0, max: MAX_PORTS - 1, default: 0 }),
    to: oneOfArg(['pty', 'tcp', 'unix', 'stdio'], { help: 'where the bytes go', default: 'pty' }),
    link: pathArg({ help: 'to=pty: a symbolic link to the terminal' }),
    listen: stringArg({ help: 'to=tcp, unix: wait for one client at a time', placeholder: '[HOST:]PORT|PATH' }),
    connect: stringArg({ help: 'to=tcp, unix: connect, and again when it is lost', placeholder: 'HOST:PORT|PATH' }),
    'when-absent': oneOfArg(['discard', 'hold'], { help: "the guest's bytes while nobody is at the far end", default: 'discard' }),
    flow: oneOfArg(['rtscts', 'none'], { help: 'give nothing to a guest whose RTS is off, or always', default: 'rtscts' }),
  },
  async probe(name, args, context) {
    const farEnd = maker(name, args);
    const emudev = find(name, args.emu, context.findEmudev(args.emu));
    return await SerialBackEnd.open({ name, emudev, port: args.port, whenAbsent: args['when-absent'], flow: args.flow, farEnd });
  },
};
