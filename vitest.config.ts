import { defineConfig } from 'vitest/config';
import { guestObstacle } from './tools/guest/src/obstacle.ts';

const obstacle = guestObstacle();
// In CI the tests run whatever we think of the machine, and fail there if it lacks something.
const guests = obstacle === undefined || process.env['CI'] !== undefined;
if (!guests) {
  console.warn(`\n${'!'.repeat(100)}\n  The tests in real guests are NOT run: ${String(obstacle)}.\n  They are the proof that a stock driver gets a working card: run them with "sudo npx pnpm test".\n${'!'.repeat(100)}\n`);
}

/**
 * Three projects, run one group after the other so that a timed or heavy test never competes with the rest:
 * `unit` (beside each package), `e2e` (several processes over real sockets), `guest` (stock QEMU, stock kernel, stock driver).
 */
export default defineConfig({
  test: {
    reporters: process.env['CI'] ? ['default', ['json', { outputFile: '.cache/vitest.json' }]] : ['default'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts', 'apps/*/test/**/*.test.ts', 'tools/*/test/**/*.test.ts'],
          exclude: ['**/*.e2e.test.ts', '**/*.guest.test.ts', '**/*.gen/**', '**/node_modules/**'],
          testTimeout: 20_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['{packages,apps,tools}/*/test/**/*.e2e.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'guest',
          include: guests ? ['{packages,apps,tools}/*/test/**/*.guest.test.ts'] : [],
          globalSetup: guests ? ['tools/guest/src/provision.ts'] : [],
          testTimeout: 300_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
