/**
 * The capture port: what it receives are the frames of a pcap file, what it is sent goes to one. As DPDK's net_pcap.
 *
 * @packageDocumentation
 */
import { integerArg, onOffArg, pathArg, type VdevDriver } from '@emudev/emudev';
import { COUNTER_BYTES, SoftwarePort, readCounter, type DatapathSpec } from '@emudev/ethdev';
import { linux, type Sys } from '@emudev/linux';
import { READ_BUFFER_BYTES, initReaderCells } from './datapath/reader.ts';
import { CaptureWriter, WRITE_MEMORY_BYTES } from './datapath/writer.ts';
import { PcapError } from './errors.ts';
import { FLUSH_INTERVAL_MS, MAX_FRAME_BYTES, MAX_SNAPLEN, MIN_SNAPLEN } from './limits.ts';
import { openFiles, type CaptureFiles, type InputFile } from './open-files.ts';
import { PCAP_COUNTERS, PCAP_COUNTERS_BYTES, READ_CELLS_BYTES, READ_ENDED, WRITE_CELLS_BYTES, type PcapInit, type ReaderInit, type WriterInit } from './port-memory.ts';

export { PcapError, type PcapErrorCode } from './errors.ts';

/** At least one of the two files. */
export interface PcapArgs {
  readonly rx_pcap?: string;
  /** Made or overwritten. */
  readonly tx_pcap?: string;
  readonly infinite_rx?: boolean;
  /** Bytes of a frame that are kept. */
  readonly snaplen?: number;
}

const PCAP_SPEED_MBPS = 10_000;

/** The port: reads and writes its files on an lcore; what it is sent reaches the file at the latest a flush interval later, and when it stops. */
export class PcapPort extends SoftwarePort {
  readonly #files: CaptureFiles;
  readonly #memory: number[] = [];
  readonly #pcapCounters: number;
  readonly #zero: bigint[] = PCAP_COUNTERS.map(() => 0n);
  readonly #init: PcapInit;
  readonly #writer: CaptureWriter | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Opens the files and checks the one to read; throws PcapError. */
  static open(name: string, args: PcapArgs, sys: Sys = linux): PcapPort {
    if (args.rx_pcap === undefined && args.tx_pcap === undefined) {
      throw new PcapError('ERR_PCAP_ARGS', `${name}: neither rx_pcap nor tx_pcap is given, as in ${name},rx_pcap=in.pcap,tx_pcap=out.pcap`);
    }
    const snaplen = args.snaplen ?? MAX_SNAPLEN;
    const files = openFiles(sys, { rx: args.rx_pcap, tx: args.tx_pcap }, snaplen);
    try {
      return new PcapPort(name, files, args.infinite_rx ?? false, snaplen, sys);
    } catch (error) {
      files.input?.fd.close();
      files.output?.close();
      throw error;
    }
  }

  private constructor(name: string, files: CaptureFiles, infinite: boolean, snaplen: number, sys: Sys) {
    super(
      {
        name,
        driver: driver.name,
        // A file has one place to read from and one end to write to.
        maxRxQueues: 1,
        maxTxQueues: 1,
        // A capture shows complete frames.
        txCapabilities: 0,
        maxFrameBytes: MAX_FRAME_BYTES,
      },
      PCAP_SPEED_MBPS,
    );
    this.#files = files;
    try {
      this.#pcapCounters = this.#alloc(PCAP_COUNTERS_BYTES);
      const reader = files.input && this.#readerInit(files.input, infinite);
      const writer = files.output && this.#writerInit(files.output.fd, snaplen);
      this.#init = { reader, writer, txCounters: this.counters.txBlock(0) };
      this.#writer = writer && new CaptureWriter(this.window, writer, sys);
    } catch (error) {
      // The window is full.
      for (const offset of this.#memory) this.window.free(offset);
      this.counters[Symbol.dispose]();
      this.window[Symbol.dispose]();
      throw error;
    }
  }

  #alloc(bytes: number): number {
    const offset = this.window.alloc(bytes, 64);
    this.#memory.push(offset);
    return offset;
  }

  #readerInit({ fd, format }: InputFile, infinite: boolean): ReaderInit {
    const cells = this.#alloc(READ_CELLS_BYTES);
    initReaderCells(this.window.view, this.window.u32, cells);
    return { fd: fd.fd, littleEndian: format.littleEndian, infinite, cells, buffer: this.#alloc(READ_BUFFER_BYTES), counters: this.counters.rxBlock(0), pcapCounters: this.#pcapCounters };
  }

  #writerInit(fd: number, snaplen: number): WriterInit {
    return { fd, snaplen, cells: this.#alloc(WRITE_CELLS_BYTES), buffer: this.#alloc(WRITE_MEMORY_BYTES), counters: this.counters.txBlock(0), pcapCounters: this.#pcapCounters };
  }

  /** The module that lcores load, and what it is started with. */
  datapath(): DatapathSpec {
    return { module: new URL('./datapath.js', import.meta.url).href, init: this.#init };
  }

  /** Nothing more will be received: rx_pcap has been read to its end or to a broken record, or there is none. */
  get finished(): boolean {
    const { reader } = this.#init;
    return reader === undefined || Atomics.load(this.window.u32, (reader.cells + READ_ENDED) >>> 2) !== 0;
  }

  #count(index: number): bigint {
    return readCounter(this.window.u32, (this.#pcapCounters + index * COUNTER_BYTES) >>> 2);
  }

  /** Besides DPDK's names: pcap_rx_truncated, pcap_rx_oversized, pcap_rx_too_short, pcap_rx_broken, pcap_tx_truncated, pcap_tx_lost. */
  override xstats(): ReadonlyMap<string, bigint> {
    return this.counters.xstats(PCAP_COUNTERS.map((name, i) => [`pcap_${name}`, this.#count(i) - this.#zero[i]!] as const));
  }

  /** The counters of the files begin anew, too. */
  override resetStats(): void {
    super.resetStats();
    for (let i = 0; i < this.#zero.length; i++) this.#zero[i] = this.#count(i);
  }

  /** Begins to flush at intervals. */
  protected override onStart(): void {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#timer = setInterval(() => {
      writer.flush(false);
    }, FLUSH_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Flushes what was sent. */
  protected override onStop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#writer?.flush(true);
  }

  /** Flushes for the last time and closes the files. */
  protected override onClose(): void {
    this.#writer?.flushLast();
    for (const offset of this.#memory) this.window.free(offset);
    try {
      this.#files.input?.fd.close();
    } finally {
      this.#files.output?.close();
    }
  }
}

/** `net_pcap` for the vdev bus. PcapError where a file is not what it must be. */
export const driver: VdevDriver<PcapArgs, PcapPort> = {
  name: 'net_pcap',
  class: 'port',
  summary: 'receives the frames of a pcap file, writes what it is sent to one',
  args: {
    rx_pcap: pathArg({ help: 'pcap file whose frames are received' }),
    tx_pcap: pathArg({ help: 'pcap file to write what is sent to (made or overwritten)' }),
    infinite_rx: onOffArg({ help: 'start over at the end of rx_pcap', default: false }),
    snaplen: integerArg({ help: 'bytes of a frame that are written', min: MIN_SNAPLEN, max: MAX_SNAPLEN, default: MAX_SNAPLEN }),
  },
  probe: (name, args) => Promise.resolve().then(() => PcapPort.open(name, args)),
};
