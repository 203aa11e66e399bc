export { rxBurst, touched } from './rx';
export { txBurst } from './tx';
export { setStoreOrder } from './publish';
