/** What `--forward` can say: two ports that forward to each other, or any number on one switch. */
import { EthdevError } from './errors.ts';
import { MAX_SWITCH_PORTS } from './limits.ts';
import type { Port } from './port.ts';

/** Two ports that forward to each other; `a === b` loops a port back to itself. */
export interface Pair {
  readonly a: Port;
  readonly b: Port;
}

/** Ports on one learning switch. */
export interface SwitchedPorts {
  readonly switched: readonly Port[];
}

/** A way that frames take. */
export type Route = Pair | SwitchedPorts;

/** Each port of a route once. */
export function portsOf(route: Route): readonly Port[] {
  if ('switched' in route) return route.switched;
  return route.a === route.b ? [route.a] : [route.a, route.b];
}

/** As `parseRoutes` reads it. */
export function routeText(route: Route): string {
  return portsOf(route).map((port) => port.name).join('switched' in route ? '+' : '=');
}

/**
 * Reads `net0=tap0,net1,net2+net3+tap1` against the ports there are: `A=B` connects both ways, `A` alone (or `A=A`) loops A back to
 * itself, `A+B+C` puts ports on a switch. Throws ERR_ETHDEV_CONFIG for an unknown port and for a port that occurs twice.
 */
export function parseRoutes(text: string, ports: ReadonlyMap<string, Port>): Route[] {
  const seen = new Set<string>();
  const find = (name: string): Port => {
    const port = ports.get(name);
    if (port === undefined) throw new EthdevError('ERR_ETHDEV_CONFIG', `no port "${name}": there are ${[...ports.keys()].join(', ') || 'none'}`);
    if (seen.has(name)) throw new EthdevError('ERR_ETHDEV_CONFIG', `port "${name}" is in two places: a port has one far end`);
    seen.add(name);
    return port;
  };
  return text
    .split(',')
    .map((route) => route.trim())
    .filter((route) => route !== '')
    .map((route) => (route.includes('+') ? parseSwitch(route, find) : parsePair(route, find)));
}

function parsePair(text: string, find: (name: string) => Port): Pair {
  const [left = '', right = left, ...more] = text.split('=').map((name) => name.trim());
  if (left === '' || right === '' || more.length > 0) throw new EthdevError('ERR_ETHDEV_CONFIG', `"${text}": want A=B, A to loop A back to itself, or A+B+C for a switch`);
  const a = find(left);
  return { a, b: right === left ? a : find(right) };
}

function parseSwitch(text: string, find: (name: string) => Port): SwitchedPorts {
  const names = text.split('+').map((name) => name.trim());
  if (names.includes('') || text.includes('=')) throw new EthdevError('ERR_ETHDEV_CONFIG', `"${text}": want A+B+C, the ports of a switch`);
  if (names.length > MAX_SWITCH_PORTS) throw new EthdevError('ERR_ETHDEV_CONFIG', `"${names[0]!}+…": a switch has 2 to ${String(MAX_SWITCH_PORTS)} ports, these are ${String(names.length)}`);
  return { switched: names.map(find) };
}
