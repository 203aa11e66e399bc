/** A device process that tells its counters: forked with the command line of iavf-device, any message to it is answered by a report. */
import { Launcher, parseArguments } from '@emudev/iavf-device';
import { countMappings, countOpenFds } from '@emudev/linux';

export interface PortReport {
  readonly stats: Readonly<Record<string, number>>;
  readonly xstats: Readonly<Record<string, number>>;
}

export interface StreamCounts {
  readonly rx: string;
  readonly rxQueue: number;
  readonly tx: string;
  readonly state: string;
  readonly received: number;
  readonly sent: number;
  readonly dropped: number;
  readonly consumed: number;
  readonly generated: number;
}

export interface DeviceReport {
  readonly ports: Readonly<Record<string, PortReport>>;
  readonly streams: readonly StreamCounts[];
  /** Of an lcore or a stream. */
  readonly failures: readonly string[];
  readonly openDescriptors: number;
  /** Of guests' memory. */
  readonly mappings: number;
}

const launcher = await Launcher.start(parseArguments(process.argv.slice(2)));
const failures: string[] = [];
launcher.onEvent((event) => failures.push(`${event.kind}: ${event.error.message}`));

process.on('message', () => {
  const ports = Object.fromEntries(
    [...launcher.ports].map(([name, port]) => [
      name,
      {
        stats: Object.fromEntries(Object.entries(port.stats()).map(([key, value]) => [key, Number(value)])),
        xstats: Object.fromEntries([...port.xstats()].map(([key, value]) => [key, Number(value)])),
      },
    ]),
  );
  const streams = launcher.report().map(({ rxPort, rxQueue, txPort, state, received, sent, dropped, consumed, generated }) => ({
    rx: rxPort, rxQueue, tx: txPort, state, received: Number(received), sent: Number(sent), dropped: Number(dropped), consumed: Number(consumed), generated: Number(generated),
  }));
  const report: DeviceReport = { ports, streams, failures, openDescriptors: countOpenFds(), mappings: countMappings('memfd:guest') };
  process.send!(report);
});
process.on('disconnect', () => {
  void launcher.close();
});
process.send!('ready');
