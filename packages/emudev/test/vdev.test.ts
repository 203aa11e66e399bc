import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { integerArg, listArg, macArg, oneOfArg, onOffArg, parseArgs, pathArg, sizeArg, stringArg } from '../src/args.ts';
import { EmudevError } from '../src/errors.ts';
import { describeDriver } from '../src/help.ts';
import { formatVdev, parseKvargs, parseList, parseVdev, takeArgs, type KeyValue } from '../src/kvargs.ts';
import { VdevBus } from '../src/vdev-bus.ts';
import type { VdevDriver } from '../src/vdev.ts';

describe('kvargs grammar', () => {
  it.each([
    ['emu_iavf0', 'emu_iavf0', []],
    ['emu_iavf0,path=/x,queues=4', 'emu_iavf0', [['path', '/x'], ['queues', '4']]],
    ['net_null0,,no-rx,', 'net_null0', [['no-rx', undefined]]],
    ['a,filter=x=y', 'a', [['filter', 'x=y']]],
    ['a,k=', 'a', [['k', '']]],
    ['a,list=[1,2,[3,4]],b=5', 'a', [['list', '[1,2,[3,4]]'], ['b', '5']]],
    ['a,k=],b', 'a', [['k', ']'], ['b', undefined]]],
    ['a,k=x[0-1]y[1,3-5,9]z', 'a', [['k', 'x[0-1]y[1,3-5,9]z']]],
    ['a,k=1,k=2', 'a', [['k', '1'], ['k', '2']]],
    ['a,k="1,b', 'a', [['k', '"1'], ['b', undefined]]],
    ['a, k = v ', 'a', [[' k ', ' v ']]],
    ['a,[k,l]=1', 'a', [['[k,l]', '1']]],
    ['a,,,,', 'a', []],
    [`a${',k'.repeat(32)}`, 'a', Array.from({ length: 32 }, () => ['k', undefined])],
  ])('%s', (text, name, pairs) => {
    expect(parseVdev(text)).toEqual({ name, pairs });
  });

  it.each(['', ',a=1', 'path=/x', 'a,=1', 'a,l=[1,2', `a${',k'.repeat(33)}`, 'x'.repeat(5000), 'a b', 'a[x,y]', `n${'x'.repeat(64)}`])('refuses %s', (text) => {
    expect(() => parseVdev(text)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
  });

  it('any text is parsed or refused, and what is parsed can be written again', () => {
    fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', 'b', '=', ',', '[', ']', ' '), maxLength: 40 }), (text) => {
      let parsed;
      try {
        parsed = parseKvargs(text);
      } catch (error) {
        expect(error).toBeInstanceOf(EmudevError);
        return;
      }
      const again = parsed.map(([key, value]) => (value === undefined ? key : `${key}=${value}`)).join(',');
      expect(parseKvargs(again)).toEqual(parsed);
    }), { numRuns: 500 });
  });

  const anyText = fc.string({ unit: fc.constantFrom('a', 'b', '=', ',', '[', ']', ' ', '"', 'ü'), maxLength: 20 });
  const anyPair: fc.Arbitrary<KeyValue> = fc.tuple(anyText, fc.option(anyText, { nil: undefined }));

  it('format and parse are each other\'s inverse: what can be written comes back, what cannot is refused', () => {
    let written = 0;
    fc.assert(fc.property(fc.array(anyPair, { maxLength: 5 }), (pairs) => {
      const vdev = { name: 'net_x0', pairs };
      let text;
      try {
        text = formatVdev(vdev);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EMUDEV_BAD_ARG' });
        // Refused for a reason: a pair that would be read as something else.
        expect(pairs.some(([key, value]) => key === '' || /[=[\],]/.test(key) || /[[\],]/.test(value ?? ''))).toBe(true);
        return;
      }
      written++;
      expect(parseVdev(text)).toEqual(vdev);
    }), { numRuns: 1000 });
    expect(written).toBeGreaterThan(100);
  });

  it('whatever is parsed is written in one way', () => {
    fc.assert(fc.property(anyText, (text) => {
      let parsed;
      try {
        parsed = parseVdev(`net_x0,${text}`);
      } catch {
        return;
      }
      expect(parseVdev(formatVdev(parsed))).toEqual(parsed);
      expect(formatVdev(parseVdev(formatVdev(parsed)))).toBe(formatVdev(parsed));
    }), { numRuns: 1000 });
  });

  it.each([['a', ['a']], ['', ['']], ['[]', []], ['[a]', ['a']], ['[a,b]', ['a', 'b']], ['[a,]', ['a', '']], ['[[a,b],c]', ['[a,b]', 'c']], ['a]', ['a]']]])('the list %s', (text, elements) => {
    expect(parseList(text)).toEqual(elements);
  });

  it.each(['[', '[a', '[a]b', '[a],[b]', '[a]]'])('no list: %s', (text) => {
    expect(() => parseList(text)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
  });

  it('a message is one line and shows the ends of a long text only', () => {
    expect(() => parseVdev(`a,k=\n[${'x'.repeat(3000)}`)).toThrow(/^'k=\\u000a\[x{30,40}…x{40}' has a '\['/);
  });

  it('takeArgs splits off what is meant for the launcher', () => {
    expect(takeArgs(parseKvargs('path=/x,queues=4,fd=3'), ['path', 'fd'])).toEqual({ taken: [['path', '/x'], ['fd', '3']], rest: [['queues', '4']] });
  });
});

describe('arguments', () => {
  interface Args { queues: number; mac?: Uint8Array; loud: boolean; mode: 'a' | 'b'; file?: string; label: string; room: number }
  const schema = {
    queues: integerArg({ help: 'queue pairs', min: 1, max: 16, default: 4 }),
    mac: macArg({ help: 'address' }),
    loud: onOffArg({ help: 'noise', default: false }),
    mode: oneOfArg(['a', 'b'], { help: 'mode', default: 'a' }),
    file: pathArg({ help: 'file' }),
    label: stringArg({ help: 'label', required: true }),
    room: sizeArg({ help: 'room', min: 4096, default: 65536 }),
  };
  const parse = (text: string): Args => parseArgs<Args>(schema, parseKvargs(text), 'toy0');

  it('a list is given in brackets, by repeating the key, or both; its elements are checked one by one', () => {
    const lists = { cores: listArg(integerArg({ help: 'core', min: 0, max: 63 }), { help: 'cores', max: 4 }) };
    const cores = (text: string): unknown => parseArgs<{ cores?: readonly number[] }>(lists, parseKvargs(text), 'toy0').cores;
    expect(cores('cores=[1,2,3]')).toEqual([1, 2, 3]);
    expect(cores('cores=7')).toEqual([7]);
    expect(cores('cores=1,cores=[2,3],cores=4')).toEqual([1, 2, 3, 4]);
    expect(cores('')).toBeUndefined();
    for (const [text, message] of [
      ['cores=[1,64]', 'toy0: cores=[1,64]: must be an integer from 0 to 63'],
      ['cores=[]', 'must be a list of 1 to 4, as in [0..63,…]'],
      ['cores=[1,2,3],cores=[4,5]', 'must be a list of 1 to 4'],
      ['cores', "'cores' has no value: must be an integer"],
      ['cores=[1]2', 'is not a list as in [a,b]'],
    ] as const) {
      expect(() => cores(text)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG', message: expect.stringContaining(message) as string }));
    }
  });

  it('are typed values, with defaults for the rest', () => {
    expect(parse('label=x')).toEqual({ queues: 4, loud: false, mode: 'a', label: 'x', room: 65536 });
    expect(parse('label=x,queues=0x10,mac=52:54:00:AB:cd:ef,loud,mode=b,file=/tmp/x,room=2M')).toEqual({
      queues: 16, mac: Uint8Array.of(0x52, 0x54, 0, 0xab, 0xcd, 0xef), loud: true, mode: 'b', label: 'x', file: '/tmp/x', room: 2 << 20,
    });
  });

  it.each([
    ['queues=17,label=x', 'toy0: queues=17: must be an integer from 1 to 16'],
    ['queues=4.5,label=x', 'must be an integer from 1 to 16'],
    ['queues,label=x', "'queues' has no value: must be an integer"],
    ['label=x,loud=maybe', 'loud=maybe: must be on or off'],
    ['label=x,mode=c', 'must be one of a, b'],
    ['label=x,mac=52:54:00:12:34', 'must be six bytes as in 52:54:00:12:34:56'],
    ['label=x,mac=01:00:5e:00:00:01', 'multicast'],
    ['label=x,mac=00:00:00:00:00:00', 'zero address'],
    ['label=x,file=', 'must be a path'],
    ['label=x,room=1k', 'must be a size in bytes from 4096'],
    ['label=x,room=9999999999G', 'must be a size in bytes'],
    ['label=x,label=y', "argument 'label' is given twice"],
    ['queues=2', "toy0: argument 'label' is missing: label=TEXT (label)"],
    ['label=x,quues=2', "unknown argument 'quues'; did you mean 'queues'?; known: queues, mac, loud, mode, file, label, room"],
    ['label=x,__proto__=2', "unknown argument '__proto__'"],
    ['label=x,constructor=2', "unknown argument 'constructor'"],
  ])('%s: %s', (text, message) => {
    expect(() => parse(text)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG', message: expect.stringContaining(message) as string }));
  });
});

describe('vdev bus', () => {
  const log: string[] = [];
  const driver = (name: string, close: () => void = () => {}): VdevDriver<{ size: number }> => ({
    name, class: 'port', summary: `the ${name} port`,
    args: { size: integerArg({ help: 'frame bytes', min: 60, max: 9728, default: 64 }) },
    probe: (device, args, context) => {
      log.push(`${name} probes ${device} ${args.size} after ${context.findEmudev('emu_a') === undefined ? 'nobody' : 'emu_a'}`);
      return Promise.resolve({ name: device, close: () => { log.push(`close ${device}`); close(); return Promise.resolve(); } });
    },
  });

  it('gives a device to the driver with the longest matching name, in order, and closes in reverse', async () => {
    log.length = 0;
    const bus = new VdevBus().register(driver('net_iavf')).register(driver('net_iavf_be')).register(driver('net_tap'));
    await bus.probeAll(['net_iavf_be0,size=100', 'net_iavf0', 'net_tap_lan']);
    expect(bus.byName('net_iavf0')?.driver.name).toBe('net_iavf');
    await bus.close();
    expect(log).toEqual(['net_iavf_be probes net_iavf_be0 100 after nobody', 'net_iavf probes net_iavf0 64 after nobody', 'net_tap probes net_tap_lan 64 after nobody', 'close net_tap_lan', 'close net_iavf0', 'close net_iavf_be0']);
    expect(bus.list()).toEqual([]);
  });

  it('refuses a second device of a name, also while the first is being probed', async () => {
    const bus = new VdevBus().register(driver('net_tap'));
    const first = bus.probe('net_tap0');
    await expect(bus.probe('net_tap0')).rejects.toMatchObject({ code: 'EMUDEV_EXISTS' });
    await first;
    await expect(bus.probe('net_tap0')).rejects.toMatchObject({ code: 'EMUDEV_EXISTS' });
  });

  it('refuses drivers whose names a device could mean both of', () => {
    const bus = new VdevBus().register(driver('net_tap'));
    for (const name of ['net_tap', 'net_tap1']) expect(() => bus.register(driver(name))).toThrowError(expect.objectContaining({ code: 'EMUDEV_EXISTS' }));
  });

  it('says which package to install for a driver it does not have', async () => {
    const bus = new VdevBus().register(driver('net_tap'));
    await expect(bus.probe('net_foo_bar0')).rejects.toThrow(/no driver for device net_foo_bar0: install the package @emudev\/net-foo-bar .*; drivers here: net_tap/);
    // No package has such a name.
    await expect(bus.probe('0')).rejects.toThrow('no driver for device 0: install the package that has the driver (npm install)');
    await expect(bus.probe('emu_uart1')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER', message: expect.stringContaining('@emudev/uart-emu') as string });
  });

  it('when one probe fails, those of the same call are closed and its error is thrown', async () => {
    log.length = 0;
    const bus = new VdevBus().register(driver('net_tap'));
    await bus.probe('net_tap9');
    await expect(bus.probeAll(['net_tap0', 'net_tap1', 'net_tap2,size=1'])).rejects.toThrow('net_tap2: size=1');
    expect(log.slice(-2)).toEqual(['close net_tap1', 'close net_tap0']);
    expect(bus.list().map((probed) => probed.name)).toEqual(['net_tap9']);
  });

  it('close goes on past a device that fails, then says so', async () => {
    log.length = 0;
    const bus = new VdevBus().register(driver('net_tap')).register(driver('net_bad', () => { throw new Error('stuck'); }));
    await bus.probeAll(['net_tap0', 'net_bad0']);
    await expect(bus.close()).rejects.toMatchObject({ errors: [{ message: 'stuck' }] });
    expect(log.at(-1)).toBe('close net_tap0');
  });

  const parseNothing = (): never => { throw new Error('not parsed here'); };

  it('help writes a default as a person would give it', () => {
    const text = describeDriver({ name: 'net_toy', class: 'port', summary: 'a toy', args: {
      mac: macArg({ help: 'address', default: Uint8Array.of(2, 0, 0, 0, 0, 0xab) }),
      loud: onOffArg({ help: 'noise', default: false }),
      room: sizeArg({ help: 'room', default: 3 << 20 }),
      step: sizeArg({ help: 'step', default: 1000 }),
      ip: { help: 'host', placeholder: 'A.B.C.D', default: Uint8Array.of(10, 0, 2, 2), defaultText: '10.0.2.2', parse: parseNothing },
      net: { help: 'network', placeholder: 'NET', default: { ip: 1, mask: 2 }, parse: parseNothing },
      peer: { help: 'peer', placeholder: 'HOST', defaultText: 'the router', parse: parseNothing },
    } });
    expect(text.split('\n').slice(1).map((line) => line.replace(/^ +\S+ +/, ''))).toEqual([
      'address (default 02:00:00:00:00:ab)', 'noise (default off)', 'room (default 3M)', 'step (default 1000)', 'host (default 10.0.2.2)', 'network', 'peer (default the router)',
    ]);
  });

  it('help lists every argument with its form and default', async () => {
    const bus = new VdevBus().register(driver('net_tap'));
    expect(await bus.help()).toBe('  net_tap  the net_tap port\n    size=60..9728  frame bytes (default 64)');
    await expect(bus.help('net_x')).rejects.toMatchObject({ code: 'EMUDEV_NODRIVER' });
  });
});
