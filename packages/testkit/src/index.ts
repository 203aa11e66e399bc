/**
 * What a driver's own tests need: conformance suites that say whether it keeps the contract of its class, and fakes of what is
 * around it: guest memory, a consumer, a back end, doorbells, vectors, a clock, frames, failing system calls. No test framework
 * inside: a suite is a list of `{ id, title, run }`.
 *
 * @packageDocumentation
 */
export * from './suite.ts';
export { expectNoLeaks, held, leaks, type Held } from './leaks.ts';
export { FakeClock } from './fakes/clock.ts';
export { RecordingVectors } from './fakes/vectors.ts';
export { TestMemory, type MemoryAccess, type TestMapOptions } from './fakes/memory.ts';
export { TEST_RAM_BYTES, TEST_RAM_IOVA, TestHost } from './fakes/host.ts';
export { RecordingBackEnd, type HookName } from './fakes/back-end.ts';
export { FrameBench, loadDatapath, testFrame, testLcore, type ReceivedFrame } from './fakes/frames.ts';
export { ScriptedPort } from './fakes/scripted-port.ts';
export { portConformance } from './port/port-conformance.ts';
export type { PortConformanceOptions, PortFactory, PortUnderTest } from './port/rig.ts';
export { providerConformance } from './provider/provider-conformance.ts';
export type { ProviderConformanceOptions, ProviderDriver, ProviderFactory, ProviderUnderTest } from './provider/rig.ts';
export { FakeDoorbell, type DoorbellKind } from './fakes/doorbell.ts';
export { FAKE_EMUDEV_NAME, FakeEmudev, type FakeEmudevSpec } from './fakes/emudev.ts';
export { backendConformance, type BackEndConformanceOptions, type BackEndUnderTest } from './back-end/back-end-conformance.ts';
export { failEachCall } from './faults.ts';
export { withFaults, type Fault } from '@emudev/linux';
