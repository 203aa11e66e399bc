/**
 * Makes docs/limits.md from the `src/limits.ts` of every package: the constants, their values as written, and their comments.
 * Run it (`pnpm limits`) after changing a limit; a test compares.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = new URL('../../../', import.meta.url).pathname;
export const LIMITS_PAGE: string = join(ROOT, 'docs/limits.md');

interface Limit {
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
}

/** The text of a doc comment or of `//` lines, one line. */
function plain(comment: string): string {
  return comment.replace(/\/\*\*?|\*\/|^\s*\*(?!\/)|^\s*\/\//gm, ' ').replace(/\s+/g, ' ').trim();
}

function limitsOf(source: string): Limit[] {
  const constant = /((?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/|(?:[ \t]*\/\/[^\n]*\n)+)\s*)?export const (\w+)(?:: [\w<>]+)? = ([^;{]+);(?:[ \t]*\/\/([^\n]*))?/g;
  const limits: Limit[] = [];
  let meaning = '';
  for (const [, before, name, value, after] of source.matchAll(constant)) {
    // A constant without a comment of its own belongs to the one above it.
    if (before !== undefined || after !== undefined) meaning = plain(before ?? after ?? '');
    limits.push({ name: name!, value: value!.trim(), meaning });
  }
  for (const [, name, body] of source.matchAll(/export const (\w+): \w+ = \{([\s\S]*?)\n\};/g)) {
    for (const [, key, value] of body!.matchAll(/^\s+(\w+): ([^,\n]+),/gm)) limits.push({ name: `${name!}.${key!}`, value: value!, meaning: '' });
  }
  return limits;
}

export function limitsPage(): string {
  const sections = readdirSync(join(ROOT, 'packages')).flatMap((name) => {
    const file = join(ROOT, 'packages', name, 'src/limits.ts');
    if (!existsSync(file)) return [];
    const rows = limitsOf(readFileSync(file, 'utf8')).map((l) => `| \`${l.name}\` | \`${l.value.replaceAll('|', '\\|')}\` | ${l.meaning.replaceAll('|', '\\|')} |`);
    return rows.length === 0 ? [] : [`## ${name}\n\n| limit | value | why |\n| --- | --- | --- |\n${rows.join('\n')}\n`];
  });
  return `# Limits\n\nEverything a peer, a guest or a user can make us allocate or loop over, and other bounds. Made from each package's \`src/limits.ts\` by \`npx pnpm limits\`.\n\n${sections.join('\n')}`;
}

if (process.argv[1] === new URL(import.meta.url).pathname) writeFileSync(LIMITS_PAGE, limitsPage());
