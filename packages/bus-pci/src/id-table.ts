/** Which devices a driver is for: DPDK's id tables, a wildcard per field. */
import type { PciIds } from './found.ts';

/** An entry of a driver's id table; a field left out matches everything. */
export type IdMatch = Partial<PciIds>;

const FIELDS: readonly (keyof PciIds)[] = ['vendor', 'device', 'subsystemVendor', 'subsystemDevice', 'classCode'];

/** Whether any entry of the table matches; a table without entries matches nothing. */
export function matchesIds(table: readonly IdMatch[], ids: PciIds): boolean {
  return table.some((entry) => FIELDS.every((field) => entry[field] === undefined || entry[field] === ids[field]));
}
