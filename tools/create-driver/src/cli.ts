#!/usr/bin/env node
/** `pnpm create-driver NAME [--kind emudev|port]`: a complete driver package, built and ready for --vdev. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError, Option } from 'commander';
import { createDriver, CreateError, KINDS, type Created, type Kind } from './create.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

function run(program: string, ...args: string[]): void {
  const { status, error, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed; the files are written, so mend what it says and run it again:\n${error?.message ?? `${stdout}${stderr}`}`);
}

function nextSteps({ kind, name, folder, driver }: Created): string {
  const see = kind === 'emudev'
    ? `  npx pnpm iavf-device --vdev '${driver}0,path=/tmp/${name}.sock'     serve it
  npx pnpm vfio-user info /tmp/${name}.sock                        look at it (in another terminal)
  npx pnpm exec vitest run --project guest packages/${folder}      boot a guest with it`
    : `  npx pnpm iavf-device --vdev 'emu_iavf0,path=/tmp/iavf.sock' --vdev net_iavf_be0,emu=emu_iavf0 \\
                       --vdev '${driver}0' --forward 'net_iavf_be0=${driver}0'     behind a network card`;
  return `
Next:
  npx pnpm exec vitest run --project unit packages/${folder}       its tests: they pass
${see}
Then edit packages/${folder}/src and rebuild with "npx pnpm build". docs/contribute-a-driver.md goes on from here.`;
}

function main(argv: readonly string[]): void {
  const program = new Command('pnpm create-driver')
    .description('Writes a new driver as a workspace package: provider or port, contract, README, tests that pass, changeset. No existing file is changed by it; pnpm adds the package to its lock file.')
    .argument('<name>', 'lower-case words joined by "-", as in "blinker"')
    .addOption(new Option('-k, --kind <kind>', 'an emulated PCI device, or a port of the data path').choices(KINDS).default('emudev'))
    .option('--no-build', 'write the files, and neither install nor build')
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  program.parse([...argv], { from: 'user' });
  const { kind, build } = program.opts<{ kind: Kind; build: boolean }>();
  const created = createDriver(ROOT, program.args[0]!, kind);
  for (const file of created.files) console.log(`wrote ${file}`);
  if (build) {
    run('pnpm', 'install', '--prefer-offline', '--no-frozen-lockfile');
    run('turbo', 'run', 'build', `--filter=${created.packageName}...`, '--output-logs=errors-only');
    console.log(`built ${created.packageName}: --vdev ${created.driver}0 finds it`);
  }
  console.log(nextSteps(created));
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError && error.code === 'commander.helpDisplayed') {
    process.exitCode = 0;
  } else {
    console.error(`create-driver: ${error instanceof Error ? error.message.replace(/^error: /, '') : String(error)}`);
    process.exitCode = error instanceof CommanderError || error instanceof CreateError ? EXIT_USAGE : EXIT_FAILED;
  }
}
