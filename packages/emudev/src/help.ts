import type { ArgSpec } from './vdev.ts';

/** What help needs of a driver, whatever the type of its arguments. */
export interface DescribedDriver {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly class: string;
  readonly summary: string;
  readonly args: object;
}

/** The help text of a driver: a line about it, then a line per argument. */
export function describeDriver(driver: DescribedDriver): string {
  const rows = Object.entries(driver.args as Record<string, ArgSpec<unknown>>).map(([key, spec]) => {
    const fallback = spec.defaultText ?? textOf(spec.default);
    const note = spec.required === true ? ' (required)' : fallback === undefined ? '' : ` (default ${fallback})`;
    return [`${key}=${spec.placeholder}`, `${spec.help}${note}`] as const;
  });
  const width = Math.max(0, ...rows.map(([left]) => left.length));
  const lines = rows.map(([left, right]) => `    ${left.padEnd(width)}  ${right}`);
  const names = [driver.name, ...(driver.aliases ?? [])].join(', ');
  return [`  ${names}  ${driver.summary}`, ...lines].join('\n');
}

const MAC_BYTES = 6;

/** undefined for what only its driver knows how to write. */
function textOf(value: unknown): string | undefined {
  if (value === true) return 'on';
  if (value === false) return 'off';
  if (value instanceof Uint8Array && value.length === MAC_BYTES) return Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join(':');
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' ? String(value) : undefined;
}
