/** The data path of a memif port: entry points called once per burst (see ../datapath.ts; ../twins is the same in TypeScript). */
export { rxBurst } from './rx';
export { txBurst } from './tx';
