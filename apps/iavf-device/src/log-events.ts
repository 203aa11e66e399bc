/** What the libraries publish on diagnostics channels, as log lines. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Logger } from './log.ts';

const LEVELS = {
  'emudev:vfio-user-server:connect': 'info',
  'emudev:vfio-user-server:negotiated': 'info',
  'emudev:vfio-user-server:disconnect': 'info',
  'emudev:vfio-user-server:request-error': 'debug',
  'emudev:vfio-user-server:fault': 'warn',
} as const;

/** Logs until the returned object is disposed. */
export function logEvents(log: Logger): Disposable {
  const subscriptions = Object.entries(LEVELS).map(([name, level]) => {
    const what = name.split(':').at(-1)!;
    const onEvent = (event: unknown): void => {
      // Memory that could not be mapped is memory the card cannot reach: its guest would find out the hard way.
      const isLostMemory = (event as { command?: string }).command === 'DMA_MAP';
      log[isLostMemory ? 'warn' : level](event as object, what);
    };
    subscribe(name, onEvent);
    return { name, onEvent };
  });
  return {
    [Symbol.dispose](): void {
      for (const { name, onEvent } of subscriptions) unsubscribe(name, onEvent);
    },
  };
}
