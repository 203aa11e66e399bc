/** The code blocks of docs/write-a-device.md as files, so that tests run what readers copy. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const GUIDE = readFileSync(new URL('../../../docs/write-a-device.md', import.meta.url), 'utf8');

/** The TypeScript block that follows the mention of its file. */
function source(file: string): string {
  const found = new RegExp(`\`${file.replaceAll('.', '\\.')}\`[^\`]*\`\`\`ts\\n([\\s\\S]*?)\`\`\``).exec(GUIDE);
  if (found === null) throw new Error(`the guide has no ${file}`);
  return found[1]!;
}

/** The shell block that contains `text`. */
export function shell(text: string): string {
  const found = [...GUIDE.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block!).find((block) => block.includes(text));
  if (found === undefined) throw new Error(`the guide has no shell block with ${text}`);
  return found;
}

/** Writes the guide's files into a folder of this package (where its imports resolve), removed on dispose. */
export function guideFiles(name: string): Disposable & { readonly folder: string } {
  const folder = fileURLToPath(new URL(`./${name}.gen/`, import.meta.url));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const file of ['crc-card.ts', 'serve.ts', 'crc-card.test.ts']) writeFileSync(`${folder}${file}`, source(file));
  return { folder, [Symbol.dispose]: () => { rmSync(folder, { recursive: true, force: true }); } };
}
