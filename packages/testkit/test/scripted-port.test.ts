import { test } from 'vitest';
import { portConformance, ScriptedPort } from '@emudev/testkit';

for (const { id, title, run } of portConformance((name) => {
  const port = new ScriptedPort(name);
  let delivered = 0;
  return { port, supply: (frames) => { port.feed(frames); }, delivered: () => (delivered += port.sent().length) };
})) {
  test(`${id}: ${title}`, run);
}
