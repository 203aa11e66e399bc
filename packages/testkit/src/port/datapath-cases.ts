/** The port suite's cases of the data path: bursts, counters, and that no frame is lost unseen. */
import { equal, ok } from 'node:assert/strict';
import { basicXstats } from '@emudev/ethdev';
import { WINDOW_BYTES } from '@emudev/dma';
import { SUITE_BURST } from '../limits.ts';
import { same, within, type ConformanceCase } from '../suite.ts';
import { checkMonotonic, checkStats, growth, type PortCase, type PortRig } from './rig.ts';
import { inWorker } from './worker.ts';

const FRAME_BYTES = 100;

/** Something to receive, where the suite can see to it. */
async function supply(rig: PortRig, count = SUITE_BURST): Promise<void> {
  if (rig.subject.supply !== undefined) rig.subject.supply(rig.frames(count, FRAME_BYTES));
  else if (rig.options.loopback === true) rig.bench.send(await rig.bench.load(rig.port), 0, rig.frames(count, FRAME_BYTES));
}

const total = (lengths: readonly { readonly length: number }[]): number => lengths.reduce((sum, { length }) => sum + length, 0);

export function datapathCases(withPort: PortCase): readonly ConformanceCase[] {
  return [
    {
      id: 'port.datapath-plain',
      title: 'describes its data path by a module and plain data',
      run: () => withPort(async (rig) => {
        await rig.configure();
        const { module, init, wakeFds = [] } = rig.port.datapath();
        ok(URL.canParse(module), `datapath().module is a URL, not '${module}'`);
        same('datapath().init after a structured clone', structuredClone(init), init);
        for (const fd of wakeFds) ok(Number.isInteger(fd) && fd >= 0, `wakeFds has descriptors, not ${fd}`);
        const loaded = (await import(module)) as { createDatapath?: unknown };
        equal(typeof loaded.createDatapath, 'function', 'the module exports createDatapath');
      }),
    },
    {
      id: 'port.worker',
      title: 'runs its data path in another thread, and counts what that does',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        await rig.configure();
        await port.start();
        await supply(rig, 4);
        const before = port.stats();
        const accounted = rig.accounted();
        const frames = rig.frames(4, FRAME_BYTES);
        const { taken, received } = await within('a burst in another thread', inWorker(port.datapath(), bench.window, bench.burst, bench.fill(frames)), 5000);
        equal(Number(rig.accounted() - accounted), taken, 'frames taken in another thread are counted');
        equal(growth(before, port.stats()).ipackets, received, 'frames received in another thread are counted');
      }),
    },
    {
      id: 'port.burst-limits',
      title: 'receives and takes no more than asked, and nothing when asked for nothing',
      run: () => withPort(async (rig) => {
        const { bench } = rig;
        const datapath = await rig.started();
        for (const max of [0, 1, 3, bench.burst.capacity, 10 * bench.burst.capacity]) {
          await supply(rig);
          const count = datapath.rxBurst(0, bench.burst, max);
          ok(Number.isInteger(count) && count >= 0 && count <= Math.min(max, bench.burst.capacity), `rxBurst of at most ${max} frames into ${bench.burst.capacity} records returned ${count}`);
        }
        for (const count of [0, 1, SUITE_BURST]) {
          const filled = bench.fill(rig.frames(count, FRAME_BYTES));
          const taken = datapath.txBurst(0, bench.burst, filled);
          ok(Number.isInteger(taken) && taken >= 0 && taken <= filled, `txBurst of ${filled} frames returned ${taken}`);
        }
      }),
    },
    {
      id: 'port.rx-counted',
      title: 'counts every frame it hands out once, with its bytes; records say where it is and which queue it came from',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const datapath = await rig.started();
        await supply(rig);
        const before = port.stats();
        let frames = 0;
        let bytes = 0;
        for (let round = 0; round < 8; round++) {
          const received = bench.receive(datapath, 0);
          frames += received.length;
          bytes += total(received.map((frame) => frame.bytes));
          for (const [i, frame] of received.entries()) {
            const at = bench.window.view.getUint32(bench.burst.records + 32 * i, true);
            const length = bench.window.view.getUint32(bench.burst.records + 32 * i + 4, true);
            ok(at > 0 && at + length <= WINDOW_BYTES && length > 0, `record ${i}: ${length} bytes at ${at} lie in the window`);
            ok(length <= port.info.maxFrameBytes, `record ${i}: ${length} bytes, more than maxFrameBytes`);
            equal(frame.queue, 0, `record ${i}: the queue it came from`);
          }
        }
        const grown = growth(before, port.stats());
        equal(grown.ipackets, frames, `ipackets has grown by the ${frames} frames received`);
        equal(grown.ibytes, bytes, `ibytes has grown by the ${bytes} bytes received`);
        if (rig.subject.supply !== undefined || rig.options.loopback === true) ok(frames > 0, 'a port that was given frames receives some');
      }),
    },
    {
      id: 'port.tx-counted',
      title: 'counts every frame it takes once: as sent, with its bytes, or as an error',
      run: () => withPort(async (rig) => {
        const { port, bench } = rig;
        const datapath = await rig.started();
        const before = port.stats();
        const accounted = rig.accounted();
        let taken = 0;
        let bytes = 0;
        for (const length of [64, 65, 100, 1000]) {
          const frames = rig.frames(8, length);
          const count = bench.send(datapath, 0, frames);
          taken += count;
          bytes += total(frames.slice(0, count));
        }
        const { opackets, obytes } = growth(before, port.stats());
        equal(Number(rig.accounted() - accounted), taken, `what is counted has grown by the ${taken} frames taken`);
        if (opackets === taken) equal(obytes, bytes, `obytes has grown by the ${bytes} bytes taken`);
      }),
    },
    {
      id: 'port.loopback',
      title: 'gives back what was sent on a queue, on that queue, in order, byte for byte (a port that promises it)',
      run: () => withPort(async (rig) => {
        if (rig.options.loopback !== true) return;
        const { bench, port } = rig;
        const datapath = await rig.started();
        const queues = Math.min(port.info.maxRxQueues, port.info.maxTxQueues);
        const sent = Array.from({ length: queues }, () => rig.frames(8, FRAME_BYTES));
        for (const [queue, frames] of sent.entries()) equal(bench.send(datapath, queue, frames), frames.length, `queue ${queue} takes 8 frames`);
        for (const [queue, frames] of sent.entries()) {
          const received = bench.receive(datapath, queue);
          same(`queue ${queue}`, received.map((frame) => [...frame.bytes]), frames.map((frame) => [...frame]));
          ok(received.every((frame) => frame.queue === queue), `records of queue ${queue} say so`);
        }
      }),
    },
    {
      id: 'port.conservation',
      title: 'loses no frame unseen: taken = delivered + counted, also when more is sent than there is room for',
      run: () => withPort(async (rig) => {
        const { bench, port, subject } = rig;
        const datapath = await rig.started();
        const before = port.stats();
        const accounted = rig.accounted();
        const deliveredBefore = (await subject.delivered?.()) ?? 0;
        let taken = 0;
        for (let burst = 0; burst < 400; burst++) {
          const count = bench.send(datapath, 0, rig.frames(SUITE_BURST, 1000));
          taken += count;
          if (count < SUITE_BURST) break;
        }
        const { oerrors, imissed } = growth(before, port.stats());
        equal(Number(rig.accounted() - accounted), taken, `what is counted has grown by the ${taken} frames taken`);
        let delivered: number | undefined;
        if (subject.delivered !== undefined) delivered = (await subject.delivered()) - deliveredBefore;
        else if (rig.options.loopback === true) {
          delivered = 0;
          for (let got = bench.receive(datapath, 0).length; got > 0; got = bench.receive(datapath, 0).length) delivered += got;
        }
        if (delivered !== undefined) equal(delivered + oerrors + imissed, taken, `of ${taken} frames taken ${delivered} were delivered, ${oerrors} counted as errors, ${imissed} as missed`);
      }),
    },
    {
      id: 'port.oversize',
      title: 'a frame longer than it carries is counted, delivered to nobody, and in nobody\'s way',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const datapath = await rig.started();
        const accounted = rig.accounted();
        const [long, good] = [rig.frames(1, port.info.maxFrameBytes + 1)[0]!, rig.frames(1, FRAME_BYTES)[0]!];
        equal(bench.send(datapath, 0, [long, good]), 2, 'both frames are taken: one that can never be sent must not block the queue');
        equal(rig.accounted() - accounted, 2n, 'each is counted once');
        if (rig.options.loopback === true) same('what comes back', bench.receive(datapath, 0).map((frame) => frame.bytes.length), [FRAME_BYTES]);
      }),
    },
    {
      id: 'port.runts',
      title: 'takes frames that are none, and counts them',
      run: () => withPort(async (rig) => {
        const { bench } = rig;
        const datapath = await rig.started();
        const accounted = rig.accounted();
        const frames = [new Uint8Array(1), new Uint8Array(13), new Uint8Array(14), rig.frames(1, FRAME_BYTES)[0]!];
        const taken = bench.send(datapath, 0, frames);
        equal(taken, frames.length, 'all are taken');
        equal(Number(rig.accounted() - accounted), taken, 'each is counted once');
      }),
    },
    {
      id: 'port.restart',
      title: 'keeps its counters when it is stopped, configured and started again, and works as before',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        let datapath = await rig.started();
        for (let round = 0; round < 3; round++) {
          const taken = bench.send(datapath, 0, rig.frames(4, FRAME_BYTES));
          bench.receive(datapath, 0);
          const before = port.stats();
          ok(rig.accounted() >= BigInt(taken), 'what was sent is counted');
          datapath.close?.();
          await port.stop();
          checkMonotonic('stop', before, port.stats());
          if (round > 0) await rig.configure();
          await port.start();
          checkMonotonic('start', before, port.stats());
          datapath = await bench.load(port);
          const accounted = rig.accounted();
          const after = bench.send(datapath, 0, rig.frames(4, FRAME_BYTES));
          equal(Number(rig.accounted() - accounted), after, 'frames are counted after a restart');
        }
      }),
    },
    {
      id: 'port.reset-stats',
      title: 'resetStats sets every counter to zero, and counting goes on',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const datapath = await rig.started();
        await supply(rig);
        bench.send(datapath, 0, rig.frames(4, FRAME_BYTES));
        bench.receive(datapath, 0);
        port.resetStats();
        const zero = port.stats();
        same('stats() after resetStats', Object.values(zero), Object.values(zero).map(() => 0n));
        for (const [name] of basicXstats(zero)) equal(port.xstats().get(name), 0n, `xstats ${name} after resetStats`);
        const taken = bench.send(datapath, 0, rig.frames(3, FRAME_BYTES));
        equal(rig.accounted(), BigInt(taken), 'what is sent after resetStats is counted');
      }),
    },
    {
      id: 'port.xstats',
      title: 'has DPDK\'s names among its extended statistics, and they agree with the basic ones',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const datapath = await rig.started();
        await supply(rig);
        bench.send(datapath, 0, rig.frames(4, FRAME_BYTES));
        bench.receive(datapath, 0);
        const stats = port.stats();
        checkStats(stats);
        const xstats = port.xstats();
        for (const [name, value] of xstats) {
          ok(/^[a-z][a-z0-9_]*$/.test(name), `'${name}' is a name of lower-case letters, digits and _`);
          ok(typeof value === 'bigint' && value >= 0n, `${name} is a bigint that counts, not ${String(value)}`);
        }
        for (const [name, value] of basicXstats(stats)) equal(xstats.get(name), value, `xstats ${name} is what stats() says`);
        const sum = (pattern: RegExp): bigint | undefined => {
          const queues = [...xstats].filter(([name]) => pattern.test(name));
          return queues.length === 0 ? undefined : queues.reduce((all, [, value]) => all + value, 0n);
        };
        for (const [pattern, expected] of [[/^rx_q\d+_packets$/, stats.ipackets], [/^tx_q\d+_packets$/, stats.opackets], [/^rx_q\d+_bytes$/, stats.ibytes], [/^tx_q\d+_bytes$/, stats.obytes]] as const) {
          const seen = sum(pattern);
          if (seen !== undefined) equal(seen, expected, `the queues' ${pattern.source} add up to the port's`);
        }
      }),
    },
    {
      id: 'port.queues',
      title: 'every queue works, and what it counts is its own',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const datapath = await rig.started();
        for (let queue = 0; queue < port.info.maxTxQueues; queue++) {
          const before = port.stats();
          const accounted = rig.accounted();
          const counted = port.xstats().get(`tx_q${queue}_packets`);
          const taken = bench.send(datapath, queue, rig.frames(2, FRAME_BYTES));
          const { opackets } = growth(before, port.stats());
          equal(Number(rig.accounted() - accounted), taken, `Tx queue ${queue}: frames taken are counted`);
          if (counted !== undefined) equal(port.xstats().get(`tx_q${queue}_packets`), counted + BigInt(opackets), `tx_q${queue}_packets`);
        }
        for (let queue = 0; queue < port.info.maxRxQueues; queue++) {
          const before = port.stats();
          const received = bench.receive(datapath, queue);
          equal(growth(before, port.stats()).ipackets, received.length, `Rx queue ${queue}: frames received are counted`);
          ok(received.every((frame) => frame.queue === queue), `Rx queue ${queue}: records name it`);
        }
      }),
    },
    {
      id: 'port.datapath-reload',
      title: 'a data path that is closed and loaded again goes on where the first one stopped',
      run: () => withPort(async (rig) => {
        const { bench, port } = rig;
        const first = await rig.started();
        const frames = rig.frames(4, FRAME_BYTES);
        equal(bench.send(first, 0, frames), 4, 'the first data path takes 4 frames');
        const before = port.stats();
        first.close?.();
        const second = await bench.load(port);
        checkMonotonic('loading again', before, port.stats());
        if (rig.options.loopback === true) same('frames sent by the first, received by the second', bench.receive(second, 0).map((f) => [...f.bytes]), frames.map((f) => [...f]));
        const accounted = rig.accounted();
        const taken = bench.send(second, 0, rig.frames(4, FRAME_BYTES));
        equal(Number(rig.accounted() - accounted), taken, 'the second data path counts');
      }),
    },
  ];
}
