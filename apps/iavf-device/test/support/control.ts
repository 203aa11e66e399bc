/** The control socket, where a test is not about refusals. */
import type { ControlClient } from '@emudev/iavf-device';

/** What the process answers. Throws what it says where it says no. */
export async function asked(control: ControlClient, command: string, fields: object = {}): Promise<unknown> {
  const answer = await control.ask({ command, ...fields });
  if (!answer.ok) throw new Error(answer.error.message);
  return answer.result;
}
