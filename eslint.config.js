/**
 * Besides the usual rules, the two that hold the architecture (docs/architecture.md):
 * a package imports only from layers above its own, and a driver never imports another driver, only its family contract.
 */
import tseslint from 'typescript-eslint';

/** Bottom of the list may import from everything before its own row; packages of one row do not see each other unless named. */
const LAYERS = [
  ['vfio-user-protocol', 'pci', 'virtchnl'],
  ['linux'],
  ['dma'],
  ['vfio-user-server', 'vfio-user-client'],
  ['emudev', 'ethdev'],
  ['bus-pci'],
  ['driver'],
];
const DRIVER_LAYER = LAYERS.length - 1;
/** The class layer knows no transport, and the pure layer touches bytes only. */
const FORBIDDEN = { emudev: ['vfio-user-*'], ethdev: ['vfio-user-*'] };
const PURE = LAYERS[0];

const layerOf = (name) => {
  const row = LAYERS.findIndex((r) => r.includes(name));
  return row === -1 ? DRIVER_LAYER : row;
};

function layering(name) {
  const row = layerOf(name);
  const allowed = LAYERS.slice(0, row).flat();
  const forbidden = FORBIDDEN[name] ?? [];
  const patterns = [
    {
      // Everything of ours that is not allowed; the family contract of a driver is the one door between drivers.
      regex: `^@emudev/(?!(${[...allowed.map((a) => `${a}$`), ...(row === DRIVER_LAYER ? ['[a-z0-9-]+/contract$'] : [])].join('|') || '(?!)'}))`,
      message: `${name} may import only from: ${allowed.join(', ') || 'nothing of ours'} (docs/architecture.md, layers)`,
    },
    ...forbidden.map((f) => ({ group: [`@emudev/${f}`], message: 'the class layer knows no transport' })),
  ];
  if (PURE.includes(name)) patterns.push({ group: ['node:*', 'koffi'], message: 'the pure layer does no I/O and uses no Node API' });
  if (name !== 'linux') patterns.push({ group: ['koffi'], message: 'libc is reached through @emudev/linux only' });
  return { files: [`packages/${name}/src/**/*.ts`], rules: { 'no-restricted-imports': ['error', { patterns }] } };
}

import { readdirSync } from 'node:fs';
const packages = readdirSync(new URL('./packages', import.meta.url));

export default tseslint.config(
  { ignores: ['docs/api/**', '**/dist/**', '**/node_modules/**', '**/*.gen.ts', '**/*.gen/**', '**/src/kernels/**', '**/.cache/**', '**/.turbo/**'] },
  ...tseslint.configs.strict,
  ...tseslint.configs.stylistic,
  {
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-empty-function': 'off',
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['apps/**', 'tools/**', '**/test/**', '*.config.ts'], rules: { 'no-console': 'off' } },
  {
    // What runs per burst or per frame: nothing that allocates or deoptimises (docs/architecture.md, hot path).
    files: ['packages/*/src/datapath*.ts', 'packages/*/src/datapath/**/*.ts', 'packages/ethdev/src/engines/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        { selector: "CallExpression[callee.property.name='subarray']", message: 'a view per frame costs 20-40 ns; use offsets' },
        { selector: 'SpreadElement', message: 'spread allocates' },
      ],
    },
  },
  ...packages.map(layering),
);
