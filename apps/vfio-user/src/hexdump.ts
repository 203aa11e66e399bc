/** Bytes in the form of `hexdump -C`: offset, hexadecimal, characters; repeated lines as one `*`. */
const LINE = 16;

export class Hexdump {
  #at: number;
  #line: number[] = [];
  #previous = '';
  #repeating = false;

  /** `start`: the offset of the first byte. */
  constructor(start = 0) {
    this.#at = start;
  }

  /** The complete lines that these bytes make. */
  push(bytes: Uint8Array): string {
    let text = '';
    for (const byte of bytes) {
      this.#line.push(byte);
      if (this.#line.length === LINE) text += this.#flush();
    }
    return text;
  }

  /** What is left, and the offset behind the last byte. */
  end(): string {
    const rest = this.#line.length > 0 ? this.#flush() : '';
    return `${rest}${offsetText(this.#at)}\n`;
  }

  #flush(): string {
    const line = this.#line;
    this.#line = [];
    const pairs = line.map((byte) => byte.toString(16).padStart(2, '0'));
    const halves = [pairs.slice(0, 8), pairs.slice(8)].map((half) => half.join(' ').padEnd(23));
    const bytes = halves.join('  ');
    const offset = offsetText(this.#at);
    this.#at += line.length;
    if (bytes === this.#previous && line.length === LINE) {
      const star = this.#repeating ? '' : '*\n';
      this.#repeating = true;
      return star;
    }
    this.#previous = bytes;
    this.#repeating = false;
    const characters = line.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    return `${offset}  ${bytes}  |${characters}|\n`;
  }
}

function offsetText(offset: number): string {
  return offset.toString(16).padStart(8, '0');
}

export function hexdump(bytes: Uint8Array, start = 0): string {
  const dump = new Hexdump(start);
  return dump.push(bytes) + dump.end();
}
