export { rxBurst } from './rx';
export { txBurst } from './tx';
