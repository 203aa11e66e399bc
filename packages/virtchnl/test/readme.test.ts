import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import * as virtchnl from '../src/index.ts';

it('the example of the README runs and prints what it says', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const imports = /^import \{(.*)\} from '@emudev\/virtchnl';$/m.exec(code);
  const log = vi.fn();
  new Function('virtchnl', 'console', `const {${imports?.[1] ?? ''}} = virtchnl;${code.replace(imports?.[0] ?? '', '')}`)(virtchnl, { log });
  expect(log).toHaveBeenCalledWith(1, '80001');
});
