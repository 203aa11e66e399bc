/** A table whose run has a child and a folder, and never ends by itself. */
import { Child, TemporaryFolder } from '../../src/processes.ts';
import type { Table } from '../../src/table.ts';

const table: Table = {
  what: 'a run that never ends',
  figures: [{ name: 'mpps', unit: 'Mpps', better: 'more' }],
  contenders: () => [{
    who: 'endless',
    async run() {
      using folder = new TemporaryFolder();
      await using child = new Child('sleep', ['sleep', '1000']);
      console.log(JSON.stringify({ pid: child.process.pid, folder: folder.path }));
      await child.line(() => false, 1_000_000);
      return {};
    },
  }],
};
export default table;
