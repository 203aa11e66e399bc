/** What the libraries publish on diagnostics channels, as log lines. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { VDEV_DIAGNOSTICS } from '@emudev/emudev';
import type { Logger } from './log.ts';

type Level = 'debug' | 'info' | 'warn';

/** Channel, what the line says, and how bad it is. */
type Source = readonly [channel: string, what: string, level: (event: object) => Level];

const CHANNELS: readonly Source[] = [
  ['emudev:vfio-user-server:connect', 'connect', () => 'info'],
  ['emudev:vfio-user-server:negotiated', 'negotiated', () => 'info'],
  ['emudev:vfio-user-server:disconnect', 'disconnect', () => 'info'],
  // Memory that could not be mapped is memory the card cannot reach: its guest would find out the hard way.
  ['emudev:vfio-user-server:request-error', 'request-error', (event) => ('command' in event && event.command === 'DMA_MAP' ? 'warn' : 'debug')],
  ['emudev:vfio-user-server:fault', 'fault', () => 'warn'],
  ['emudev:dma:unsealed', 'guest memory that its VMM could truncate, which would end this process (see --unsealed-memory)', () => 'warn'],
  ['emudev.net_iavf_be', 'guest request', (event) => ('event' in event && event.event === 'refused' ? 'debug' : 'warn')],
];

/** CLIENT, GUEST: most of what happens here is a peer's doing, and a peer must not fill the disk. */
const LINES_PER_SECOND = 20;

const DEVICES: readonly Source[] = [[VDEV_DIAGNOSTICS, 'device', (event) => ('error' in event ? 'warn' : 'info')]];

/** Logs until the returned object is disposed. */
export function logEvents(log: Logger): Disposable {
  return logFrom(CHANNELS, log);
}

/** Devices that come and go at run time: those of the command line need no line each. */
export function logHotPlug(log: Logger): Disposable {
  return logFrom(DEVICES, log);
}

function logFrom(sources: readonly Source[], log: Logger): Disposable {
  const subscriptions = sources.map(([name, what, levelOf]) => {
    let second = 0;
    let lines = 0;
    let suppressed = 0;
    const onEvent = (event: unknown): void => {
      const level = levelOf(event as object);
      if (!log.isLevelEnabled(level)) return;
      const now = Math.floor(performance.now() / 1000);
      if (now !== second) {
        second = now;
        lines = 0;
      }
      if (++lines > LINES_PER_SECOND) {
        suppressed++;
        return;
      }
      log[level]({ ...plain(event as object), ...(suppressed === 0 ? {} : { suppressed }) }, what);
      suppressed = 0;
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

/** JSON has nothing to say of an Error. */
function plain(event: object): object {
  return Object.fromEntries(Object.entries(event).map(([key, value]: [string, unknown]) => [key, value instanceof Error ? value.message : value]));
}
