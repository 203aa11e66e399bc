import { VdevBus } from '@emudev/emudev';
import { driver, IAVF_CONTRACT, MAILBOX, type IavfVdev } from '../src/index.ts';

await using bus = new VdevBus().register(driver);
const card = (await bus.probe('emu_iavf0,mac=52:54:00:12:34:56,queues=2')).device as IavfVdev;

// The data path: answers what the guest's driver asks over the admin queue.
const mailbox = card.emudev.channel(MAILBOX);
mailbox.onMessage((request) => { mailbox.send({ kind: 'message', opcode: request.opcode, status: -64, payload: new Uint8Array(0) }); });
card.emudev.attach({ lock: () => Promise.resolve(), unlock: () => {} }, IAVF_CONTRACT);

// The PCI side: a transport serves card.pci; here we just look at it.
const ids = new Uint8Array(4);
await card.pci.read(7, 0, ids);
export const identity: string = Buffer.from(ids).reverse().toString('hex'); // 18898086
