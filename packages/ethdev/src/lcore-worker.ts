/** The thread of one lcore: loads data paths, runs the loop, obeys the control thread. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { attachWindow, QuiescentReader } from '@emudev/dma';
import { linux } from '@emudev/linux';
import { createEngine } from './engines/create.ts';
import { EthdevError } from './errors.ts';
import { LcoreLoop } from './lcore-loop.ts';
import { LCORE_COMMAND, packError, type LcoreReport, type LcoreRequest, type LcoreWorkerData, type PortOnLcore, type StreamOnLcore } from './lcore-protocol.ts';
import type { CreateDatapath, LcoreContext, PortDatapath } from './port.ts';

interface UsedPort {
  readonly port: PortOnLcore;
  readonly datapath: PortDatapath;
  streams: number;
}

const data = workerData as LcoreWorkerData;
const control = parentPort!;
const context: LcoreContext = { ...attachWindow(data.memory, data.base), lcore: data.lcore };
const loop = new LcoreLoop(context, new QuiescentReader(context.i32, data.readerCells), linux, data);
const commandCell = (data.control >>> 2) + LCORE_COMMAND;
const ports = new Map<number, UsedPort>();
const portsOfStream = new Map<number, readonly [number, number]>();

const report = (message: LcoreReport): void => {
  control.postMessage(message);
};

async function acquire(port: PortOnLcore): Promise<UsedPort> {
  let used = ports.get(port.id);
  if (used === undefined) {
    const module = (await import(port.module)) as { createDatapath?: CreateDatapath };
    if (typeof module.createDatapath !== 'function') {
      throw new EthdevError('ERR_ETHDEV_DATAPATH', `${port.name}: ${port.module} exports no createDatapath`);
    }
    used = { port, datapath: await module.createDatapath(context, port.init as never), streams: 0 };
    ports.set(port.id, used);
  }
  used.streams++;
  return used;
}

function release(id: number): void {
  const used = ports.get(id);
  if (used === undefined || --used.streams > 0) return;
  ports.delete(id);
  try {
    used.datapath.close?.();
  } catch (error) {
    report({ kind: 'warning', error: packError(error) });
  }
}

function refreshFds(): void {
  loop.setPortFds([...new Set([...ports.values()].flatMap((used) => used.port.wakeFds))]);
}

async function add(stream: StreamOnLcore): Promise<void> {
  const engine = createEngine(context, stream.engine);
  const rx = await acquire(stream.rx);
  let tx: UsedPort;
  try {
    tx = await acquire(stream.tx);
  } catch (error) {
    release(stream.rx.id);
    throw error;
  }
  portsOfStream.set(stream.id, [stream.rx.id, stream.tx.id]);
  loop.streams.push({ id: stream.id, rx: rx.datapath, rxQueue: stream.rxQueue, tx: tx.datapath, txQueue: stream.txQueue, engine, burst: stream.burst, counters: stream.counters });
  refreshFds();
}

/** Of a failed stream too, and of one that is not there any more. */
function remove(id: number): void {
  const index = loop.streams.findIndex((stream) => stream.id === id);
  if (index >= 0) loop.streams.splice(index, 1);
  const used = portsOfStream.get(id);
  if (used === undefined) return;
  portsOfStream.delete(id);
  for (const port of used) release(port);
  refreshFds();
}

/** false: stop. */
async function obey(request: LcoreRequest): Promise<boolean> {
  try {
    if (request.kind === 'add') await add(request.stream);
    else if (request.kind === 'remove') remove(request.id);
    else for (const id of [...portsOfStream.keys()]) remove(id);
    report({ kind: 'done', request: request.request });
  } catch (error) {
    report({ kind: 'refused', request: request.request, error: packError(error) });
  }
  return request.kind !== 'stop';
}

/** Requests come by the event loop while this thread waits for something, and are fetched by hand while it polls. */
const requests: LcoreRequest[] = [];
let arrived: (() => void) | undefined;
control.on('message', (request: LcoreRequest) => {
  requests.push(request);
  arrived?.();
});

function fetchRequests(): void {
  Atomics.store(context.i32, commandCell, 0);
  loop.drainWake();
  for (;;) {
    const received = receiveMessageOnPort(control) as { message: LcoreRequest } | undefined;
    if (received === undefined) return;
    requests.push(received.message);
  }
}

async function main(): Promise<void> {
  report({ kind: 'ready' });
  for (;;) {
    fetchRequests();
    for (let request = requests.shift(); request !== undefined; request = requests.shift()) {
      if (!(await obey(request))) return;
    }
    if (loop.streams.length === 0) {
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
      arrived = undefined;
      continue;
    }
    try {
      loop.run();
    } catch (error) {
      const failed = loop.streams[loop.current];
      if (failed === undefined) throw error;
      remove(failed.id);
      report({ kind: 'stream-failed', id: failed.id, error: packError(error) });
    }
  }
}

await main();
control.close();
