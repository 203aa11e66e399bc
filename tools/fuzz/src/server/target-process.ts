/** `node target-process.ts SOCKET`: a server of the fuzz device; counts what it holds when asked, between two clients. */
import { subscribe } from 'node:diagnostics_channel';
import { Window } from '@emudev/dma';
import { VfioUserServer, type DisconnectEvent, type FaultEvent, type RequestErrorEvent } from '@emudev/vfio-user-server';
import { catchStrays, count, noteDefect, takeCounts } from '../defects.ts';
import { FuzzDevice } from './fuzz-device.ts';

/** A client, or this device, provokes faults on purpose: those carry an errno, or no error at all. Others are defects, and so is a command that never ends. */
function isDefect({ what, error }: FaultEvent): boolean {
  return what.includes('does not end') || (error !== undefined && !(error instanceof Error && Number.isInteger((error as { errno?: unknown }).errno)));
}

catchStrays();
subscribe('emudev:vfio-user-server:request-error', (event) => {
  const { command, errno, unexpected, error } = event as RequestErrorEvent;
  count(`error ${(error as { code?: string }).code ?? errno}`);
  if (unexpected) noteDefect(`an error without an errno, from ${command}`, error);
});
subscribe('emudev:vfio-user-server:disconnect', (event) => {
  const { reason, error } = event as DisconnectEvent;
  count(`end ${reason}${error instanceof Error ? ` (${(error as { code?: string }).code ?? error.message})` : ''}`);
});
subscribe('emudev:vfio-user-server:fault', (event) => {
  const fault = event as FaultEvent;
  // Numbers left out: one kind of fault, one line.
  count(`fault ${fault.what.replaceAll(/\d+/g, 'N')}`);
  if (isDefect(fault)) noteDefect(`fault: ${fault.what}`, fault.error);
});

using window = Window.open();
using device = new FuzzDevice(window);
await using server = new VfioUserServer(device, { window, limits: { negotiationTimeoutMs: 1000, dmaReplyTimeoutMs: 20 } });
let whenIdle: (() => void) | undefined;
server.onSession({
  detached: (session) => {
    if (session.counters.unexpectedErrors > 0) noteDefect('session', new Error(`${session.counters.unexpectedErrors} unexpected errors`));
    // The server forgets the session right after this.
    setImmediate(() => { if (server.session === undefined) whenIdle?.(); });
  },
});
await server.listen(process.argv[2]!);
process.on('message', () => {
  whenIdle = () => {
    whenIdle = undefined;
    void takeCounts().then((counts) => process.send!(counts));
  };
  if (server.session === undefined) whenIdle();
});
process.send!('ready');
await new Promise((resolve) => process.once('disconnect', resolve));
