import { describe, expect, test } from 'vitest';
import { MIGRATION_STATES, migrationPath, type MigrationState } from '../src/index.ts';

const ALL = MIGRATION_STATES;
/** Short names, so that the tables below fit a line. */
const NAMES: Readonly<Record<string, MigrationState>> = { S: 'stop', R: 'running', C: 'stop-copy', M: 'resuming', Q: 'running-p2p', P: 'pre-copy', X: 'pre-copy-p2p' };

/** The next state on the way from the row to the column; '.' is there already, '-' forbidden. Everything else is forbidden, too. */
function table(columns: string, rows: Readonly<Record<string, string>>): Map<string, string> {
  const cells = new Map<string, string>();
  for (const [row, line] of Object.entries(rows)) {
    line.split(' ').forEach((cell, i) => cells.set(`${NAMES[row]!} ${NAMES[columns.split(' ')[i]!]!}`, cell));
  }
  return cells;
}

// libvfio-user's table: no peer-to-peer states.
const PRE_COPY = table('S R C M P', {
  S: '. R C M R',
  R: 'S . S S P',
  C: 'S S . S -',
  M: 'S S S . S',
  P: 'R R C R .',
});
const PLAIN = table('S R C M', {
  S: '. R C M',
  R: 'S . S S',
  C: 'S S . S',
  M: 'S S S .',
});
// The kernel's vfio_from_fsm_table.
const P2P_AND_PRE_COPY = table('S R C M Q P X', {
  S: '. Q C M Q Q Q',
  R: 'Q . Q Q Q P Q',
  C: 'S S . S S - -',
  M: 'S S S . S S S',
  Q: 'S R S S . R X',
  P: 'R R X R R . X',
  X: 'Q Q C Q Q P .',
});
const P2P = table('S R C M Q', {
  S: '. Q C M Q',
  R: 'Q . Q Q Q',
  C: 'S S . S S',
  M: 'S S S . S',
  Q: 'S R S S .',
});

/** The whole way by looking up one step after the other. */
function expected(from: MigrationState, to: MigrationState, cells: Map<string, string>): MigrationState[] | undefined {
  const way: MigrationState[] = [];
  for (let at = from; ; at = way.at(-1)!) {
    const cell = cells.get(`${at} ${to}`) ?? '-';
    if (cell === '-') return undefined;
    if (cell === '.') return way;
    way.push(NAMES[cell]!);
  }
}

describe.each([
  ['without anything optional', { preCopy: false, peerToPeer: false }, PLAIN],
  ['with pre-copy', { preCopy: true, peerToPeer: false }, PRE_COPY],
  ['with peer-to-peer', { preCopy: false, peerToPeer: true }, P2P],
  ['with pre-copy and peer-to-peer', { preCopy: true, peerToPeer: true }, P2P_AND_PRE_COPY],
] as const)('migrationPath %s', (_name, options, cells) => {
  test.each(ALL.flatMap((from) => ALL.map((to) => [from, to] as const)))('%s to %s', (from, to) => {
    expect(migrationPath(from, to, options)).toEqual(expected(from, to, cells));
  });
});
