/** The data path of an emulated iavf: entry points called once per burst (see ../datapath.ts; ../twins is the same in TypeScript). */
export { rxBurst } from './tx-ring';
export { txBurst } from './rx-ring';
export { takeBack } from './tx-lent';
export { prefetch, prefetched } from './prefetch';
export { setStoreOrder } from './publish';
export { deny, missHigh, missLow, setAsking, lookedAhead } from './iotlb';
