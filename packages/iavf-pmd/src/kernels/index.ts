export { rxBurst, touched } from './rx';
export { txBurst } from './tx';
export { prefetch, prefetched } from './prefetch';
export { setStoreOrder } from './publish';
