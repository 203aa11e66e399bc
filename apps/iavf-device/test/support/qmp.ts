/** QEMU's control socket (`-qmp unix:PATH,server=on,wait=off`). */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

/** One command on QEMU's own control socket; its answer, behind whatever events come first. */
export async function qmp(path: string, execute: string, args: object): Promise<void> {
  const socket = connect(path);
  try {
    socket.write(`${JSON.stringify({ execute: 'qmp_capabilities' })}\n${JSON.stringify({ execute, arguments: args, id: 'ours' })}\n`);
    for await (const line of createInterface({ input: socket })) {
      const answer = JSON.parse(line) as { id?: string; error?: { desc: string } };
      if (answer.id !== 'ours') continue;
      if (answer.error !== undefined) throw new Error(answer.error.desc);
      return;
    }
    throw new Error('QEMU ended');
  } finally {
    socket.destroy();
  }
}
