/** The escape character of standard input, as QEMU has it: Ctrl-A, then a command. */

const CTRL_A = 0x01;

/** What the second key asks for. */
export interface EscapeCommands {
  /** Bytes for the guest; valid during the call. */
  data(bytes: Uint8Array): void;
  /** Ctrl-A X */
  quit(): void;
  /** Ctrl-A B */
  break(): void;
  /** Ctrl-A H, and whatever is no command. */
  help(): void;
}

/** Told from the bytes, over any number of reads. Ctrl-A twice is one for the guest. */
export class EscapeParser {
  readonly #commands: EscapeCommands;
  #escaped = false;

  constructor(commands: EscapeCommands) {
    this.#commands = commands;
  }

  feed(bytes: Uint8Array): void {
    let from = 0;
    const pass = (to: number): void => {
      if (to > from) this.#commands.data(bytes.subarray(from, to));
    };
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (!this.#escaped) {
        if (byte !== CTRL_A) continue;
        pass(i);
        from = i + 1;
        this.#escaped = true;
        continue;
      }
      this.#escaped = false;
      if (byte === CTRL_A) {
        from = i;
        continue;
      }
      from = i + 1;
      const key = String.fromCharCode(byte | 0x20);
      if (key === 'x') this.#commands.quit();
      else if (key === 'b') this.#commands.break();
      else this.#commands.help();
    }
    pass(bytes.length);
  }
}
