/**
 * The back end of the emulated iavf card, as an ethdev port: virtchnl, queues, filters, receive-side scaling, statistics and link
 * on the control thread (`adapter.ts` holds the state, `virtchnl/` one operation family per file), and the data path of an lcore
 * (`datapath.ts`, kernels). Both meet in the state block that `layout.ts` describes.
 *
 * @packageDocumentation
 */
export { driver, type IavfBackEndArgs } from './driver.ts';
export { IavfBackEndPort } from './port.ts';
export { BACK_END_DIAGNOSTICS, type BackEndDiagnostic } from './mailbox.ts';
export { OFFERED_CAPABILITIES, grantCapabilities } from './virtchnl/resources.ts';
export { DEFAULT_RSS_KEY } from './rss.ts';
export * from './limits.ts';
