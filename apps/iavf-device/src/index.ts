/**
 * The launcher as a library: compose emulated devices, ports and lcores in one process from the same text as the command line.
 *
 * @packageDocumentation
 */
export { Launcher, driverCatalog, type PlugRequest, type Served } from './launcher.ts';
export { parseArguments, UsageError, HelpRequested, type Plan } from './arguments.ts';
export { cloudHypervisorLine, libvirtLines, qemuLine, wiring } from './wiring.ts';
export { ControlServer, type Answer } from './control/server.ts';
export { ControlClient } from './control/client.ts';
export { ControlError, type ControlErrorCode } from './control/errors.ts';
