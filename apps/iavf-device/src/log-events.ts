/** What the libraries publish on diagnostics channels, as log lines. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Logger } from './log.ts';

type Level = 'debug' | 'info' | 'warn';

/** Channel, what the line says, and how bad it is. */
const CHANNELS: readonly (readonly [channel: string, what: string, level: (event: object) => Level])[] = [
  ['emudev:vfio-user-server:connect', 'connect', () => 'info'],
  ['emudev:vfio-user-server:negotiated', 'negotiated', () => 'info'],
  ['emudev:vfio-user-server:disconnect', 'disconnect', () => 'info'],
  // Memory that could not be mapped is memory the card cannot reach: its guest would find out the hard way.
  ['emudev:vfio-user-server:request-error', 'request-error', (event) => ('command' in event && event.command === 'DMA_MAP' ? 'warn' : 'debug')],
  ['emudev:vfio-user-server:fault', 'fault', () => 'warn'],
  ['emudev.vdev', 'device', (event) => ('error' in event ? 'warn' : 'info')],
  ['emudev:dma:unsealed', 'guest memory that its VMM could truncate, which would end this process (see --unsealed-memory)', () => 'warn'],
  ['emudev.net_iavf_be', 'guest request', (event) => ('event' in event && event.event === 'refused' ? 'debug' : 'warn')],
];

/** CLIENT, GUEST: most of what happens here is a peer's doing, and a peer must not fill the disk. */
const LINES_PER_SECOND = 20;

/** Logs until the returned object is disposed. */
export function logEvents(log: Logger): Disposable {
  const subscriptions = CHANNELS.map(([name, what, levelOf]) => {
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
      log[level](suppressed === 0 ? (event as object) : { ...(event as object), suppressed }, what);
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
