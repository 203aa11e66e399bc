/** The thread of one lcore: loads data paths, runs the loop, obeys the control thread. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { attachWindow, QuiescentReader } from '@emudev/dma';
import { linux, setThreadAffinity, setTimerSlack } from '@emudev/linux';
import { createEngine } from './engines/create.ts';
import { EthdevError } from './errors.ts';
import { LcoreLoop } from './lcore-loop.ts';
import { LCORE_COMMAND, packError, type LcoreReport, type LcoreRequest, type LcoreWorkerData, type PortOnLcore, type StreamOnLcore } from './lcore-protocol.ts';
import { TIMER_SLACK_NS } from './limits.ts';
import type { CreateDatapath, LcoreContext, PortDatapath } from './port.ts';

interface UsedPort {
  readonly port: PortOnLcore;
  readonly datapath: PortDatapath;
  /** Streams, and data paths that send to it. */
  users: number;
}

const data = workerData as LcoreWorkerData;
const control = parentPort!;
const context: LcoreContext = { ...attachWindow(data.memory, data.base), lcore: data.lcore, wakeUps: { count: 0 } };
const loop = new LcoreLoop(context, new QuiescentReader(context.i32, data.readerCells), linux, data);
const commandCell = (data.control >>> 2) + LCORE_COMMAND;
const ports = new Map<number, UsedPort>();
const portsOfStream = new Map<number, Pick<StreamOnLcore, 'rx' | 'rxQueue' | 'tx'>>();

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
    used = { port, datapath: await create(port, module.createDatapath), users: 0 };
    ports.set(port.id, used);
  }
  used.users++;
  return used;
}

/** With the ports it sends to, which are as good as polled until it is released. */
async function create(port: PortOnLcore, createDatapath: CreateDatapath): Promise<PortDatapath> {
  const acquired: UsedPort[] = [];
  try {
    for (const target of port.sendsTo) acquired.push(await acquire(target));
    const sendsTo = acquired.map((used) => used.datapath);
    return await createDatapath({ ...context, sendsTo }, port.init as never);
  } catch (error) {
    for (const used of acquired) release(used.port.id);
    throw error;
  }
}

function release(id: number): void {
  const used = ports.get(id);
  if (used === undefined || --used.users > 0) return;
  ports.delete(id);
  try {
    used.datapath.close?.();
  } catch (error) {
    report({ kind: 'warning', error: packError(error) });
  }
  for (const target of used.port.sendsTo) release(target.id);
}

function refreshPorts(): void {
  // Of what is received here only: the frames of another lcore's queue are none of ours.
  const fds = [...portsOfStream.values()].map(({ rx, rxQueue }) => rx.wakeFds[rx.wakeFds.length > 1 ? rxQueue : 0]);
  loop.setPorts([...ports.values()].map(({ datapath }) => datapath), [...new Set(fds.filter((fd) => fd !== undefined))]);
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
  portsOfStream.set(stream.id, stream);
  loop.add({ id: stream.id, rx: rx.datapath, rxQueue: stream.rxQueue, tx: tx.datapath, txQueue: stream.txQueue, engine, announced: stream.announced, burst: stream.burst, keeping: stream.keeping, counters: stream.counters });
  refreshPorts();
}

/** Of a failed stream too, and of one that is not there any more. */
function remove(id: number): void {
  loop.remove(id);
  const used = portsOfStream.get(id);
  if (used === undefined) return;
  portsOfStream.delete(id);
  release(used.rx.id);
  release(used.tx.id);
  refreshPorts();
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
  if (data.cpu !== undefined) setThreadAffinity([data.cpu]);
  setTimerSlack(TIMER_SLACK_NS);
  report({ kind: 'ready' });
  for (;;) {
    fetchRequests();
    for (let request = requests.shift(); request !== undefined; request = requests.shift()) {
      if (!(await obey(request))) return;
    }
    if (loop.empty) {
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
      arrived = undefined;
      continue;
    }
    try {
      loop.run();
    } catch (error) {
      const failed = loop.currentId;
      if (failed === undefined) throw error;
      remove(failed);
      report({ kind: 'stream-failed', id: failed, error: packError(error) });
    }
  }
}

await main();
control.close();
