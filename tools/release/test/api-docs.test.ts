import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, Logger, LogLevel, TSConfigReader, type TypeDocOptions } from 'typedoc';
import { expect, test } from 'vitest';

const ROOT = new URL('../../../', import.meta.url).pathname;

/** Packages whose every export is documented. */
const DOCUMENTED = [
  'bus-pci', 'dma', 'edu-emu', 'emudev', 'ethdev', 'iavf-emu', 'iavf-pmd', 'linux', 'net-af-packet', 'net-echo', 'net-iavf-be', 'net-memif', 'net-null', 'net-pcap', 'net-pktgen', 'net-ring', 'net-tap', 'pci', 'serial-be', 'serial-emu', 'serial-pmd', 'testkit', 'vfio-user-client', 'vfio-user-protocol', 'vfio-user-server', 'virtchnl',
];

class Warnings extends Logger {
  readonly lines: string[] = [];
  override log(message: string, level: LogLevel): void {
    if (level >= LogLevel.Warn) this.lines.push(message.replaceAll(ROOT, ''));
  }
}

/**
 * What TypeDoc warns about with the rules of typedoc.json: undocumented exports, links in comments, READMEs and docs that lead nowhere. All
 * packages as one program, where `npx pnpm api` makes one each: a fraction of the time.
 */
async function warnings(): Promise<string[]> {
  const { packageOptions } = JSON.parse(readFileSync(join(ROOT, 'typedoc.json'), 'utf8')) as { packageOptions: TypeDocOptions };
  const app = await Application.bootstrap({
    ...packageOptions,
    entryPoints: DOCUMENTED.map((name) => join(ROOT, 'packages', name, 'src/index.ts')),
    packagesRequiringDocumentation: DOCUMENTED.map((name) => `@emudev/${name}`),
    tsconfig: join(ROOT, 'tsconfig.json'),
    readme: join(ROOT, 'README.md'),
    projectDocuments: ['docs/*.md', '{packages,apps,tools}/*/README.md'].map((path) => join(ROOT, path)),
  }, [new TSConfigReader()]);
  const logger = new Warnings();
  app.logger = logger;
  const project = await app.convert();
  if (project === undefined) throw new Error(`TypeDoc fails: ${logger.lines.join('\n')}`);
  expect(project.children?.map(({ name }) => name.replace(/\/src$/, ''))).toEqual(expect.arrayContaining(DOCUMENTED));
  app.validate(project);
  return logger.lines;
}

test('every export is documented, and every link in the documentation leads somewhere', { timeout: 120_000 }, async () => {
  expect(await warnings()).toEqual([]);
});
