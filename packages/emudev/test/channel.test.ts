import { describe, expect, it } from 'vitest';
import { toyProvider } from './fakes.ts';

const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

describe('channel', () => {
  it('is synchronous where the handler is, in both directions', () => {
    const { talk, heard } = toyProvider();
    talk.channel.onMessage((message) => { talk.channel.send(`re: ${message}`); });
    expect(talk.deliver('a')).toBeUndefined();
    expect(heard).toEqual(['re: a']);
    expect(talk.pending).toBe(0);
  });

  it('delivers one at a time: the next waits for the handler\'s promise', async () => {
    const { talk } = toyProvider();
    const seen: string[] = [];
    const first = Promise.withResolvers<undefined>();
    talk.channel.onMessage((message) => {
      seen.push(message);
      return message === 'a' ? first.promise : undefined;
    });
    const a = talk.deliver('a');
    const b = talk.deliver('b');
    expect([seen, talk.pending]).toEqual([['a'], 2]);
    first.resolve(undefined);
    await Promise.all([a, b]);
    expect(seen).toEqual(['a', 'b']);
  });

  it('a message a handler provokes comes after it, never inside it', () => {
    const { talk } = toyProvider();
    const seen: string[] = [];
    talk.channel.onMessage((message) => {
      seen.push(`${message} in`);
      if (message === 'a') void talk.deliver('b');
      seen.push(`${message} out`);
    });
    void talk.deliver('a');
    expect(seen).toEqual(['a in', 'a out', 'b in', 'b out']);
  });

  it('waits for a handler, and a second handler replaces the first', async () => {
    const { talk } = toyProvider();
    const seen: string[] = [];
    const waiting = talk.deliver('a');
    const old = talk.channel.onMessage((message) => { seen.push(`old ${message}`); });
    await waiting;
    talk.channel.onMessage((message) => { seen.push(`new ${message}`); });
    old[Symbol.dispose]();
    void talk.deliver('b');
    expect(seen).toEqual(['old a', 'new b']);
  });

  it('a handler that throws or rejects is reported, and the next message comes', async () => {
    const { talk, log } = toyProvider();
    talk.channel.onMessage((message) => {
      if (message === 'a') throw new Error('thrown');
      return message === 'b' ? Promise.reject(new Error('rejected')) : undefined;
    });
    void talk.deliver('a');
    await talk.deliver('b');
    expect(talk.deliver('c')).toBeUndefined();
    expect(log).toEqual(['handler: thrown', 'handler: rejected']);
  });

  it('holds so many and no more', () => {
    const { talk } = toyProvider();
    for (const message of ['a', 'b', 'c']) void talk.deliver(message);
    expect(() => talk.deliver('d')).toThrowError(expect.objectContaining({ code: 'EMUDEV_RANGE' }));
  });

  it('clear drops what waits and lets go of who waited; settled waits for the one in hand', async () => {
    const { talk } = toyProvider();
    const gate = Promise.withResolvers<undefined>();
    const seen: string[] = [];
    talk.channel.onMessage(async (message) => {
      seen.push(message);
      await gate.promise;
      seen.push(`${message} done`);
    });
    void talk.deliver('a');
    const b = talk.deliver('b');
    expect(talk.clear()).toBe(1);
    await b;
    const settled = talk.settled().then(() => seen.push('settled'));
    await turn();
    gate.resolve(undefined);
    await settled;
    expect(seen).toEqual(['a', 'a done', 'settled']);
  });

  it('settled, asked from inside a handler, waits for that handler', async () => {
    const { talk } = toyProvider();
    const seen: string[] = [];
    let settled: Promise<void> | undefined;
    talk.channel.onMessage(async () => {
      settled = talk.settled().then(() => { seen.push('settled'); });
      await turn();
      seen.push('handler done');
    });
    void talk.deliver('a');
    await settled;
    expect(seen).toEqual(['handler done', 'settled']);
  });
});
