import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it } from 'vitest';
import { EMUDEV_DIAGNOSTICS } from '../src/observers.ts';
import { EmudevRegistry } from '../src/registry.ts';
import { attrKey, type Emudev, type ProviderPort } from '../src/device.ts';
import { COLOUR, CONTRACT, LoggingBackEnd, toyProvider } from './fakes.ts';

function device(): { port: ProviderPort; emudev: Emudev; errors: unknown[] } {
  const port = new EmudevRegistry().allocate('emu_a', toyProvider());
  const errors: unknown[] = [];
  port.device.on('error', (error) => { errors.push(error); });
  return { port, emudev: port.device, errors };
}
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

describe('back-end hooks', () => {
  it('are never re-entered, whoever calls', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await emudev.configure({});
    const all = [port.ready(), emudev.start(), port.reset('family'), port.suspend('bus'), port.lock('dma').then(() => { port.updated({ dma: true, irqs: false }); port.unlock(); }), port.reset('function'), port.resume(), emudev.stop()];
    await Promise.all(all);
    await port.destroyed('gone');
    expect(backEnd.log.filter((line) => line.startsWith('RE-ENTERED'))).toEqual([]);
    expect(backEnd.log).toContain('destroyed gone');
  });

  it('are told of resets and departures in a lock of their own, or in the transport\'s', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await port.ready();
    await port.reset('family');
    await port.lock('reset');
    await port.reset('function');
    await port.destroyed('closed');
    port.unlock();
    expect(backEnd.log).toEqual(['ready', 'lock', 'reset family', 'unlock', 'lock', 'reset function', 'reset consumer-left', 'destroyed closed', 'unlock']);
  });

  it('told at once inside the transport\'s bracket run one after the other, and the bracket ends behind them', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await port.lock('reset');
    const told = [port.ready(), port.reset('function'), port.destroyed('gone')];
    port.unlock();
    const next = port.lock('dma');
    await Promise.all(told);
    await next;
    port.unlock();
    expect(backEnd.log).toEqual(['lock', 'ready', 'reset function', 'reset consumer-left', 'destroyed gone', 'unlock', 'lock', 'unlock']);
  });

  it('a family reset waits for the transport\'s bracket to end', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await port.lock('dma');
    const reset = port.reset('family');
    await turn();
    expect(backEnd.log).toEqual(['lock']);
    port.updated({ dma: true, irqs: false });
    port.unlock();
    await reset;
    expect(backEnd.log).toEqual(['lock', 'updated dma', 'unlock', 'lock', 'reset family', 'unlock']);
  });

  it('a suspension locks once, lets applications and newcomers through, and nests', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    const attachment = emudev.attach(backEnd, CONTRACT);
    await port.ready();
    await port.suspend('bus master off');
    await port.lock('dma');
    port.unlock();
    await emudev.configure({});
    await emudev.start();
    expect(backEnd.log).toEqual(['ready', 'lock', 'start']);
    await attachment[Symbol.asyncDispose]();
    const next = new LoggingBackEnd();
    emudev.attach(next, CONTRACT);
    await port.resume();
    expect(next.log).toEqual(['lock', 'start', 'ready', 'unlock']);
    expect(backEnd.log).toEqual(['ready', 'lock', 'start']);
  });

  it('a back end that comes late is told of start and ready', async () => {
    const { port, emudev } = device();
    await emudev.configure({});
    await emudev.start();
    await port.ready();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await emudev.stop();
    expect(backEnd.log).toEqual(['start', 'ready', 'stop']);
  });

  it('a back end that leaves while a consumer is ready is locked first, and then hears nothing', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    const attachment = emudev.attach(backEnd, CONTRACT);
    await port.ready();
    await attachment[Symbol.asyncDispose]();
    await attachment[Symbol.asyncDispose]();
    await port.reset('function');
    expect(backEnd.log).toEqual(['ready', 'lock']);
    emudev.attach(new LoggingBackEnd(), CONTRACT);
  });

  it('exactly one at a time, and only with the same contract', () => {
    const { emudev } = device();
    const attach = (devType: string, version: number) => () => emudev.attach(new LoggingBackEnd(), { devType, version });
    expect(attach('toy', 2)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    expect(attach('other', 1)).toThrowError(expect.objectContaining({ code: 'EMUDEV_BAD_ARG' }));
    attach('toy', 1)();
    expect(attach('toy', 1)).toThrowError(expect.objectContaining({ code: 'EMUDEV_EXISTS' }));
  });

  it('what they throw is an error event; only a failing lock stops what it protects', async () => {
    const { port, emudev, errors } = device();
    const bug = (): never => { throw new Error('bug'); };
    let unlocked = 0;
    emudev.attach({ ready: bug, reset: bug, destroyed: bug, updated: bug, lock: () => Promise.reject(new Error('stuck')), unlock: () => { unlocked++; } }, CONTRACT);
    await port.ready();
    await port.reset('function');
    port.updated({ dma: true, irqs: false });
    await expect(port.lock('dma')).rejects.toThrow('stuck');
    port.unlock();
    await expect(port.suspend('bus')).rejects.toThrow('stuck');
    await port.destroyed('gone');
    expect(emudev.consumer).toBe('absent');
    expect(unlocked).toBe(0);
    expect(errors.map((error) => (error as Error).message)).toEqual(['bug', 'stuck', 'bug', 'bug', 'stuck', 'bug', 'bug']);
    // The section is free: nobody waits for a lock that was never given.
    await emudev.configure({});
    await emudev.start();
  });

  it('closing under a ready consumer says goodbye once', async () => {
    const { port, emudev } = device();
    const backEnd = new LoggingBackEnd();
    emudev.attach(backEnd, CONTRACT);
    await port.ready();
    await emudev.close();
    await port.destroyed('too late');
    expect(backEnd.log).toEqual(['ready', 'lock', 'reset consumer-left', 'destroyed device closed', 'unlock', 'lock', 'unlock']);
  });
});

describe('observers', () => {
  it('hear everything, stop nothing by throwing, and can leave', async () => {
    const { port, emudev, errors } = device();
    const heard: string[] = [];
    using early = emudev.on('ready', () => { throw new Error('bad observer'); });
    emudev.on('ready', () => heard.push('ready'));
    emudev.on('destroyed', (reason) => heard.push(`destroyed ${reason}`));
    emudev.on('reset', (kind) => heard.push(`reset ${kind}`));
    emudev.on('attributeChanged', (name) => heard.push(`changed ${name}`));
    const leaving = emudev.on('reset', () => heard.push('left'));
    leaving[Symbol.dispose]();
    await port.ready();
    await port.reset('family');
    emudev.setAttr(COLOUR, { red: 2 });
    expect(() => { emudev.setAttr(attrKey<number>('picky'), 2); }).toThrow();
    await port.destroyed('x');
    expect(heard).toEqual(['ready', 'reset family', 'changed colour', 'reset consumer-left', 'destroyed x']);
    expect(errors).toMatchObject([{ message: 'bad observer' }]);
    early[Symbol.dispose]();
  });

  it('the same events go to the diagnostics channel', async () => {
    const { port } = device();
    const seen: unknown[] = [];
    const listener = (message: unknown): void => { seen.push(message); };
    subscribe(EMUDEV_DIAGNOSTICS, listener);
    await port.ready();
    unsubscribe(EMUDEV_DIAGNOSTICS, listener);
    await port.destroyed('x');
    expect(seen).toEqual([{ device: 'emu_a', event: 'ready', args: [] }]);
  });
});
