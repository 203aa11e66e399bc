/**
 * VFIO and iommufd as bytes: request numbers, and a codec per structure. No I/O: whoever has a descriptor passes them on. What a
 * device answers is checked (`ERR_BUS_VFIO_ARGSZ`, `ERR_BUS_VFIO_CHAIN`), and what cannot be encoded is ERR_BUS_ARGUMENT.
 *
 * @packageDocumentation
 */
export * from './vfio-abi/ioctl.ts';
export { askWithArgsz, capabilitiesOf } from './vfio-abi/capability-chain.ts';
export type { VfioCapability } from './vfio-abi/capability-chain.ts';
export * from './vfio-abi/device-info.ts';
export * from './vfio-abi/region-info.ts';
export * from './vfio-abi/irq-set.ts';
export * from './vfio-abi/type1.ts';
export * from './vfio-abi/iommufd.ts';
