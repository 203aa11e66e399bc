/** The far end of a serial port whose guest sends everything back: numbered lines, every one compared. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const OUTSTANDING = 16;

export class EchoLine implements Disposable {
  readonly #socket: Socket;
  #sent = 0;
  #received = 0;
  #rest = '';
  #stopped = false;
  wrong: string[] = [];
  /** Resolved when the line has come back that somebody waits for. */
  #waiting: { readonly number: number; resolve(): void }[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => { this.#take(data.toString('latin1')); });
  }

  static async open(path: string): Promise<EchoLine> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new EchoLine(socket);
  }

  /** Lines that have come back. */
  get received(): number {
    return this.#received;
  }

  /** Keeps lines under way from now on. */
  start(): void {
    while (this.#sent - this.#received < OUTSTANDING) this.#socket.write(`line ${this.#sent++} of many\n`);
  }

  /** Resolves when `count` more lines have come back. */
  more(count: number): Promise<void> {
    return new Promise((resolve) => { this.#waiting.push({ number: this.#received + count, resolve }); });
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (line !== `line ${this.#received} of many`) this.wrong.push(`${line} instead of line ${this.#received}`);
      this.#received++;
    }
    this.#waiting = this.#waiting.filter(({ number, resolve }) => {
      if (number > this.#received) return true;
      resolve();
      return false;
    });
    if (!this.#stopped) this.start();
  }

  /** Sends no more, and resolves when everything has come back: the next far end finds a quiet line. */
  async finish(): Promise<void> {
    this.#stopped = true;
    if (this.#sent > this.#received) await this.more(this.#sent - this.#received);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#stopped = true;
    this.#socket.destroy();
  }
}
