import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { ControlError } from './errors.ts';
import type { Answer } from './server.ts';

/** The other end of a control socket. Requests are answered in order. */
export class ControlClient implements Disposable {
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;

  /** ERR_CONTROL_CONNECTION where nobody listens, or we may not open it. */
  static async connect(path: string): Promise<ControlClient> {
    const socket = connect(path);
    try {
      await once(socket, 'connect');
    } catch (cause) {
      const { code } = cause as { code?: unknown };
      throw new ControlError('ERR_CONTROL_CONNECTION', `no device process listens on ${path} (${String(code)}); it is what --control PATH names`, { cause });
    }
    return new ControlClient(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    // A connection that ends is an answer that does not come.
    socket.on('error', () => {});
    this.#answers = createInterface({ input: socket, crlfDelay: Infinity })[Symbol.asyncIterator]();
  }

  /** The answer as it is, good or bad. One request at a time. ERR_CONTROL_CONNECTION where none comes. */
  async ask(request: Readonly<Record<string, unknown>>): Promise<Answer> {
    this.#socket.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new ControlError('ERR_CONTROL_CONNECTION', 'the device process ended the connection');
    return JSON.parse(value) as Answer;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
