/**
 * Registers as text: a template names bit fields, the value fills them in.
 *
 * | in the template | becomes                                            |
 * | --------------- | -------------------------------------------------- |
 * | `{5}`           | `+` if bit 5 is set, else `-`                      |
 * | `{8.4}`         | bits 8 to 11 as a decimal number                   |
 * | `{8.4:02x}`     | the same in hexadecimal, padded to two digits      |
 * | `{8.4:speed}`   | the entry of `tables.speed` with that number       |
 *
 * An entry that a table lacks is shown as `??` and the number.
 */
export type Tables = Readonly<Record<string, readonly string[]>>;

const FIELD = /\{(\d+)(?:\.(\d+)(?::(?:0(\d)x|(\w+)))?)?\}/g;

export function bits(value: number, lowest: number, width: number): number {
  return width >= 32 ? value >>> 0 : (value >>> lowest) & ((1 << width) - 1);
}

export function flag(value: number, bit: number): '+' | '-' {
  return bits(value, bit, 1) === 1 ? '+' : '-';
}

export function hex(value: number | bigint, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

export function fields(template: string, value: number, tables: Tables = {}): string {
  return template.replace(FIELD, (_all, lowest: string, width: string | undefined, digits: string | undefined, table: string | undefined) => {
    if (width === undefined) return flag(value, Number(lowest));
    const field = bits(value, Number(lowest), Number(width));
    if (digits !== undefined) return hex(field, Number(digits));
    return table === undefined ? String(field) : entry(tables[table] ?? [], field);
  });
}

export function entry(table: readonly string[], index: number): string {
  return table[index] ?? `??${index}`;
}
