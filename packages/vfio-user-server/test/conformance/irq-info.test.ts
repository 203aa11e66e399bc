import { fields } from '../raw-client.ts';
import { EINVAL, IRQ_INFO } from '../requests.ts';
import { conformance } from './suite.ts';

const of = (index: number, argsz = 16): Uint8Array => fields(argsz, 0, index, 0);

conformance('irq-info', {
  Q1: { title: 'a payload of 8 bytes, argsz 8, index 5: EINVAL', exchanges: [new Uint8Array(8), of(0, 8), of(5)].map((payload) => ({ send: [IRQ_INFO, payload] as const, reply: EINVAL })) },
  Q2: { title: 'argsz 32: 16 bytes, count 0 for an index that the device lacks', exchanges: [{ send: [IRQ_INFO, of(0, 32)], reply: fields(16, 0, 0, 0) }] },
  Q3: { title: 'ERR and REQ: EVENTFD, one each', exchanges: [3, 4].map((index) => ({ send: [IRQ_INFO, of(index)] as const, reply: fields(16, 1, index, 1) })) },
  Q4: { title: 'MSI-X with 2048 vectors', exchanges: [{ send: [IRQ_INFO, of(2)], reply: fields(16, 1, 2, 2048) }] },
});
