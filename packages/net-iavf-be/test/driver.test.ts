import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { parseArgs, type Emudev } from '@emudev/emudev';
import { encodeQueueSelect, Opcode } from '@emudev/virtchnl';
import { describe, expect, it } from 'vitest';
import { BACK_END_DIAGNOSTICS, driver, type IavfBackEndArgs } from '../src/index.ts';
import { Card } from './card.ts';

describe('driver', () => {
  it('reads emu=NAME, which it needs, and mac', () => {
    const parse = (...pairs: [string, string][]): IavfBackEndArgs => parseArgs<IavfBackEndArgs>(driver.args, pairs);
    expect(parse(['emu', 'emu_iavf0'])).toEqual({ emu: 'emu_iavf0' });
    expect(parse(['emu', 'emu_iavf0'], ['mac', '52:54:00:12:34:56']).mac).toEqual(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56));
    expect(() => parse(['mac', '52:54:00:12:34:56'])).toThrow(/emu/);
    expect(() => parse(['emu', 'a'], ['mac', '01:00:5e:00:00:01'])).toThrow(/multicast/);
  });

  it('says which emulated device is missing', async () => {
    const registry = { allocate: () => { throw new Error('not used'); }, release: () => {}, byName: () => undefined };
    await expect(driver.probe('net_iavf_be0', { emu: 'nobody' }, { findEmudev: () => undefined, registry })).rejects.toMatchObject({ code: 'EMUDEV_NOENT' });
  });

  it('says that a device of another family is none of its', async () => {
    const edu = { info: { devType: 'edu' } } as Emudev;
    const registry = { allocate: () => { throw new Error('not used'); }, release: () => {}, byName: () => undefined };
    await expect(driver.probe('net_iavf_be0', { emu: 'emu_edu0' }, { findEmudev: () => edu, registry })).rejects.toMatchObject({
      code: 'EMUDEV_BAD_ARG', message: 'net_iavf_be0: emu_edu0 is a device of the family edu; this is the back end of iavf cards',
    });
  });

  it('is a port with sixteen queues each way, and nothing it finishes for others', async () => {
    await using card = await Card.plug({ pairs: 16 });
    expect(card.port.info).toMatchObject({ driver: 'net_iavf_be', maxRxQueues: 16, maxTxQueues: 16, txCapabilities: 0, maxFrameBytes: 9728 });
    const { module, init } = card.port.datapath();
    expect(module).toMatch(/datapath\.js$/);
    expect(structuredClone(init)).toMatchObject({ device: card.device, shared: false });
  });

  it('publishes what it refused: Linux would not say', async () => {
    await using card = await Card.plug();
    const seen: unknown[] = [];
    const observe = (message: unknown): void => {
      seen.push(message);
    };
    subscribe(BACK_END_DIAGNOSTICS, observe);
    try {
      await card.negotiate();
      await card.status(Opcode.ENABLE_QUEUES, encodeQueueSelect({ vsiId: 1, txQueues: 1, rxQueues: 0 }));
    } finally {
      unsubscribe(BACK_END_DIAGNOSTICS, observe);
    }
    expect(seen).toEqual([{ port: 'net_iavf_be0', event: 'refused', message: 'ENABLE_QUEUES: expected tx queue 0 configured, saw not configured' }]);
  });
});
